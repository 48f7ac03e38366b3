"""Providers' rate limits, held by all processes of a channel together, without a query a message.

What a limit allows accumulates in one row per provider. Each process takes a lease of some calls at
a time, spends them from memory, and lets go of what it has not spent within a second. A provider
without a limit is not looked at.
"""

import asyncio
from collections.abc import Mapping

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseError
from comms.platform.limits import Limit
from comms.platform.rate_limit import TokenBuckets, TokenLease, lease_of
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.05
BURST_SECONDS = 1.0  # of the rate, that may accumulate while nobody sends


class Allowance:
    """What this process may still call, by provider.

    Args:
        limits: calls a second, by provider; those without a limit are absent.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        limits: Mapping[str, float],
        *,
        channel: Channel,
        clock: Clock = utc_now,
    ) -> None:
        self._buckets = TokenBuckets(pool, ("consumers", "allowance"), ("channel", "provider"))
        self._limits = {
            provider: Limit(rate=rate, burst=max(1.0, rate * BURST_SECONDS))
            for provider, rate in limits.items()
        }
        self._channel, self._clock = channel, clock
        self._purses = {provider: TokenLease() for provider in limits}
        self._asked: set[str] = set()

    def permits(self, provider: str) -> bool:
        """Whether one more call may be made now; when not, more is asked for."""
        purse = self._purses.get(provider)
        if purse is None or purse.holds(self._clock().timestamp()) > 0:
            return True
        self._asked.add(provider)
        return False

    def spend(self, provider: str) -> None:
        """One call is made."""
        if provider in self._purses:
            self._purses[provider].spend()

    def refund(self, provider: str) -> None:
        """One call that was spent is not made."""
        if provider in self._purses:
            self._purses[provider].spend(-1)

    async def run(self) -> None:
        """Take leases while there is need for them, until cancelled."""
        introduced = False
        while self._limits:
            try:
                if not introduced:
                    await self._introduce()
                    introduced = True
                for provider in tuple(self._asked):
                    await self.lease(provider)
            except DatabaseError as error:
                log.warning("allowance.unavailable", problem=str(error))
            await asyncio.sleep(EVERY_SECONDS)

    async def lease(self, provider: str) -> int:
        """Take what there is, up to a lease; the number of calls it permits.

        Raises:
            DatabaseError: none was taken.
        """
        limit = self._limits[provider]
        taken = await self._buckets.take(
            self._channel, provider, limit=limit, wanted=lease_of(limit.rate)
        )
        if taken is None or taken.count == 0:
            return 0
        self._asked.discard(provider)
        self._purses[provider].fill(taken.count, self._clock().timestamp())
        return taken.count

    async def _introduce(self) -> None:
        for provider in self._limits:
            await self._buckets.introduce(self._channel, provider, tokens=0)
