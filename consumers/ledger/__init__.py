"""The ledger: claims and outcomes of provider calls, in PostgreSQL.

The pipeline claims a message here before each call and records the outcome after it. The primary
key of `consumers.attempt` decides which process may call.
"""
