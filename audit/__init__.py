"""The audit service: records status events as history, state and counts, and answers queries."""
