"""The simulated provider: a process of its own that answers, misbehaves and sends receipts.

`comms run simulator` awaits `serve`. Channels reach it over HTTP through
`consumers.simulator.adapter`; being apart, it still knows what it was called with when a consumer
is killed.
"""

from consumers.simulator.server import serve

__all__ = ["serve"]
