"""The simulated provider: a process of its own that answers, misbehaves and sends receipts.

`comms run simulator` serves it. Channels reach it over HTTP through `consumers.simulated`; being
apart, it still knows what it was called with when a consumer is killed.
"""
