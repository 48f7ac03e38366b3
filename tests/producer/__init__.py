"""Tests of accepting: the library, the HTTP API and the relay."""
