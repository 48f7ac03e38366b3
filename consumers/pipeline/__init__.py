"""The delivery pipeline of a channel process: poll, decode, select, claim, call, settle, commit.

`consumers.service` builds it. Records come in from Kafka and from the deferred queue, each message
is claimed in the ledger, a provider is called, and the outcome is settled and published.
"""
