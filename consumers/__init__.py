"""Delivers: one runner for every channel, and four thin channels that differ only in data.

A channel's process takes messages from its topic, claims each in the ledger, calls a provider and
announces what came of it on `comms.status`. `consumers.sms`, `.email`, `.push` and `.voice` hold
what is different: the provider adapters and what their receipts look like.
"""
