"""Tests of the documents: what they name is what there is."""
