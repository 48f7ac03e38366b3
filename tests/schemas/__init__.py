"""Tests of the contract between services."""
