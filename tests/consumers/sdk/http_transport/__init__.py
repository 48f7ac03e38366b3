"""The wire to a provider: what each failure on it is taken for, and what it never does."""
