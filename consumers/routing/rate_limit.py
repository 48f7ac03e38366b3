"""Holds providers' rate limits across all processes of a channel, without a query per message.

What a limit allows accumulates in one row per provider. Each process leases some calls at a time
and spends them from memory. What it has not spent within a second is forfeited. The router asks
before it chooses a provider, and reports the calls that it makes.
"""

from collections.abc import Mapping

from psycopg_pool import AsyncConnectionPool

from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseError
from comms.platform.database_retry import run_periodically
from comms.platform.limits import Limit
from comms.platform.rate_limit import TokenBuckets, TokenLease, lease_of
from schemas.vocabulary import Channel

LEASE_INTERVAL_SECONDS = 0.05
BURST_SECONDS = 1.0  # of the rate, that may accumulate while nothing is sent


class ProviderRateLimits:
    """The calls that this process may still make, by provider.

    Args:
        rates: calls per second by provider. A provider without a limit is absent.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        rates: Mapping[str, float],
        *,
        channel: Channel,
        clock: Clock = utc_now,
    ) -> None:
        self._buckets = TokenBuckets(pool, ("consumers", "allowance"), ("channel", "provider"))
        self._limits = {
            provider: Limit(rate=rate, burst=max(1.0, rate * BURST_SECONDS))
            for provider, rate in rates.items()
        }
        self._channel = channel
        self._clock = clock
        self._leases = {provider: TokenLease() for provider in rates}
        self._exhausted: set[str] = set()  # providers that need another lease
        self._has_rows = False

    def allows(self, provider: str) -> bool:
        """Whether one more call may be made now. If not, `run` takes another lease."""
        lease = self._leases.get(provider)
        if lease is None or lease.holds(self._clock().timestamp()) > 0:
            return True
        self._exhausted.add(provider)
        return False

    def spend(self, provider: str) -> None:
        """Count a call that is made."""
        if provider in self._leases:
            self._leases[provider].spend()

    def refund(self, provider: str) -> None:
        """Give back a call that was counted and is not made."""
        if provider in self._leases:
            self._leases[provider].spend(-1)

    async def run(self) -> None:
        """Take leases as they are needed, until cancelled. Ends at once if nothing is limited."""
        if self._limits:
            await run_periodically(
                self._lease_exhausted,
                seconds=LEASE_INTERVAL_SECONDS,
                event="rate_limit.unavailable",
                retry_on=DatabaseError,
            )

    async def lease(self, provider: str) -> int:
        """Take what is available, up to a lease.

        Returns:
            The number of calls that it allows.

        Raises:
            DatabaseError: nothing was taken.
        """
        limit = self._limits[provider]
        tokens = await self._buckets.take(
            self._channel, provider, limit=limit, wanted=lease_of(limit.rate)
        )
        if tokens is None or tokens.count == 0:
            return 0
        self._exhausted.discard(provider)
        self._leases[provider].fill(tokens.count, self._clock().timestamp())
        return tokens.count

    async def _lease_exhausted(self) -> None:
        if not self._has_rows:
            await self._insert_rows()
            self._has_rows = True
        for provider in tuple(self._exhausted):
            await self.lease(provider)

    async def _insert_rows(self) -> None:
        for provider in self._limits:
            await self._buckets.introduce(self._channel, provider, tokens=0)
