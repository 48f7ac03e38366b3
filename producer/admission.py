"""Tenants' rate limits, at the door: how many messages a second each may have accepted.

`producer.api` asks before it accepts a request; whoever is over the limit is answered 429, and
nothing of the request is accepted. Processes hold a limit together through a row of PostgreSQL a
tenant, and mostly decide from memory. A tenant without a limit is not looked at.
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
class _Account:
    """What this process knows of a tenant: what it holds, and until when how much is too much."""

    purse: TokenLease = field(default_factory=TokenLease)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    refused: int = 0
    until: float = 0.0


class Admission:
    """Holds tenants to their limits; belongs to one event loop."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        limits: TenantLimits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buckets = TokenBuckets(pool, ("producer", "allowance"), ("tenant",))
        self._limits, self._monotonic = limits, monotonic
        self._accounts: dict[str, _Account] = {}

    async def admit(self, tenant: str, messages: int) -> None:
        """Let so many messages of a tenant in, all or none.

        Raises:
            Problem: 429; the tenant is over its limit, and none may come in now.
            DatabaseUnavailableError: it cannot be told.
        """
        limit = self._limits.of(tenant)
        if limit is None:
            return
        account = self._accounts.setdefault(tenant, _Account())
        async with account.lock:
            wait = await self._wait(tenant, account, limit, messages=messages)
        if wait is not None:
            metrics.rejected_total.labels("rate_limited").inc(messages)
            raise _too_many(tenant, limit, messages, wait=wait)

    async def _wait(
        self, tenant: str, account: _Account, limit: Limit, *, messages: int
    ) -> float | None:
        """Seconds until so many may come in; None if they may now."""
        now = self._monotonic()
        held = account.purse.holds(now)
        if held >= messages:
            account.purse.spend(messages)
            return None
        if messages >= account.refused > 0 and now < account.until:
            return account.until - now
        taken = await self._take(tenant, limit, need=messages - held)
        if taken.count:
            account.purse.fill(held + taken.count - messages, now)
            account.refused = 0
            return None
        wait = max(0.0, min(messages, limit.burst) - taken.left) / limit.rate
        account.refused, account.until = messages, now + wait
        return wait

    async def _take(self, tenant: str, limit: Limit, *, need: int) -> Grant:
        wanted = lease_of(limit.rate)
        taken = await self._buckets.take(tenant, limit=limit, need=need, wanted=wanted)
        if taken is None:  # the tenant's first message since it has a limit
            await self._buckets.introduce(tenant, tokens=limit.burst)
            taken = await self._buckets.take(tenant, limit=limit, need=need, wanted=wanted)
        return taken or Grant(0, 0.0)


def _too_many(tenant: str, limit: Limit, messages: int, *, wait: float) -> Problem:
    seconds = max(1, ceil(wait))
    return Problem(
        429,
        "Too Many Requests",
        f"Tenant {tenant} may send {limit.rate:g} messages a second, {limit.burst:g} at once; "
        f"nothing was accepted of the {messages} in this request. Try again in {seconds} s",
        headers={"Retry-After": str(seconds)},
    )
