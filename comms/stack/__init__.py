"""The whole system on one machine: embedded engines, their supervisor, and `comms up`.

`comms.cli` calls `comms.stack.up.up`; the tests start the same engines through `tests.engines`.
Nothing of this package runs in a deployment that names a real Kafka and a real PostgreSQL.
"""
