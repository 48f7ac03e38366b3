"""Benchmarks: each prints ratios to something that it measures in the same run."""
