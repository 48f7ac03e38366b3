"""Which provider an attempt goes through, and whether any can be called now.

The dispatcher asks a `Router` before each claim and tells it after each call. `breaker` and
`weights` decide, purely; `sharing` keeps the processes of a channel of one mind; `allowance` holds
providers' rate limits.
"""

from consumers.routing.router import Aside, Choice, NoWay, Route, Router

__all__ = ["Aside", "Choice", "NoWay", "Route", "Router"]
