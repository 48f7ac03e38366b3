"""Routing: which provider an attempt goes through, and whether any can be called now.

The pipeline asks a `Router` before each claim and reports the outcome of each call to it. `breaker`
and `weights` decide, and are pure. `sharing` keeps the processes of a channel in step, `health`
remembers what a process has seen of its providers, and `rate_limit` holds the providers' limits.
"""

from consumers.routing.router import Choice, NoProvider, ProvidersResting, Route, Router

__all__ = ["Choice", "NoProvider", "ProvidersResting", "Route", "Router"]
