"""Delivering, on real engines."""
