"""The whole system on one machine: embedded engines, their supervisor, and `comms up`.

`comms.cli` calls `comms.stack.up.up`. The tests start the same engines through `tests.engines`.
A deployment whose settings name a real Kafka and a real PostgreSQL uses nothing of this package.
"""
