"""The rate limits of tenants: how many messages a second the HTTP API accepts from each tenant.

`producer.api` calls `TenantLimiter.admit` before it accepts a request. A request over the limit
gets the status 429, and none of its messages is accepted. All processes share a tenant's limit
through one row in PostgreSQL, and take most decisions from memory. For a tenant without a limit,
nothing is read or stored.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from psycopg_pool import AsyncConnectionPool

from comms.platform import metrics
from comms.platform.limits import Limit, TenantLimits
from comms.platform.problems import Problem
from comms.platform.rate_limit import Grant, TokenBuckets, TokenLease, lease_of


@dataclass(slots=True)
class _TenantState:
    """The tokens that this process holds for a tenant, and its last refusal.

    A request of at least `refused_count` messages is refused without a query until `refused_until`.
    """

    lease: TokenLease = field(default_factory=TokenLease)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    refused_count: int = 0
    refused_until: float = 0.0


class TenantLimiter:
    """Enforces the rate limits of tenants. Belongs to one event loop."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        limits: TenantLimits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets = TokenBuckets(pool, ("producer", "allowance"), ("tenant",))
        self._limits = limits
        self._monotonic = monotonic
        self._states: dict[str, _TenantState] = {}

    async def admit(self, tenant: str, messages: int) -> None:
        """Admit all of `messages` messages of a tenant, or none.

        Raises:
            Problem: 429; the tenant is over its limit, and no message is admitted.
            DatabaseUnavailableError: the limit cannot be checked.
        """
        limit = self._limits.of(tenant)
        if limit is None:
            return
        state = self._states.setdefault(tenant, _TenantState())
        async with state.lock:
            wait = await self._spend(tenant, state, limit, messages=messages)
        if wait is not None:
            metrics.rejected_total.labels("rate_limited").inc(messages)
            raise _too_many(tenant, limit, messages, wait=wait)

    async def _spend(
        self, tenant: str, state: _TenantState, limit: Limit, *, messages: int
    ) -> float | None:
        """Spend one token for each message; if there are too few, return the seconds to wait."""
        now = self._monotonic()
        held = state.lease.holds(now)
        if held >= messages:
            state.lease.spend(messages)
            return None
        if messages >= state.refused_count > 0 and now < state.refused_until:
            return state.refused_until - now
        taken = await self._take(tenant, limit, need=messages - held)
        if taken.count:
            state.lease.fill(held + taken.count - messages, now)
            state.refused_count = 0
            return None
        wait = max(0.0, min(messages, limit.burst) - taken.left) / limit.rate
        state.refused_count = messages
        state.refused_until = now + wait
        return wait

    async def _take(self, tenant: str, limit: Limit, *, need: int) -> Grant:
        wanted = lease_of(limit.rate)
        taken = await self._buckets.take(tenant, limit=limit, need=need, wanted=wanted)
        if taken is None:  # the first message of a tenant that has just been given a limit
            await self._buckets.introduce(tenant, tokens=limit.burst)
            taken = await self._buckets.take(tenant, limit=limit, need=need, wanted=wanted)
        return taken or Grant(0, 0.0)


def _too_many(tenant: str, limit: Limit, messages: int, *, wait: float) -> Problem:
    seconds = max(1, ceil(wait))
    return Problem(
        429,
        "Too Many Requests",
        f"The rate limit of tenant {tenant} is {limit.rate:g} messages a second, {limit.burst:g} at"
        f" once. None of the {messages} messages of this request was accepted. Try again in"
        f" {seconds} s",
        headers={"Retry-After": str(seconds)},
    )
