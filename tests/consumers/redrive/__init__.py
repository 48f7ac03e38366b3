"""Tests of what people do about messages."""
