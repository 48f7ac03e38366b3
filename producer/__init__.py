"""Accepts messages: the outbox as a library, the HTTP API, and the relay that publishes to Kafka.

Workflows import `producer.outbox`. Services in other languages use the HTTP API (`producer.api`).
Both write a message as one row in `producer.message` and one row in the queue. The relay
(`producer.relay`) publishes it from there.
"""
