"""Accepting: the outbox as a library, the HTTP API, and the relay that publishes to the topics.

A workflow imports `producer.outbox`; services in other languages post to `producer.api`. Either way
a message is one row in `producer.message` and one in the queue, and `producer.relay` does the rest.
"""
