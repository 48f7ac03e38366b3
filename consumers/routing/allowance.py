"""Providers' rate limits, held by all processes of a channel together, without a query a message.

What a limit allows accumulates in one row per provider. Each process takes a lease of some calls at
a time, spends them from memory, and lets go of what it has not spent within a second. A provider
without a limit is not looked at.
"""

import asyncio
from collections.abc import Mapping

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.clock import Clock, utc_now
from comms.database import DatabaseError, translated
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.05
LEASE_SECONDS = 1.0  # what is not spent by then is forfeited
LARGEST_LEASE = 100
BURST_SECONDS = 1.0  # of the rate, that may accumulate while nobody sends

_INTRODUCE = """
INSERT INTO consumers.allowance (channel, provider, tokens) SELECT %s, unnest(%s::text[]), 0
ON CONFLICT DO NOTHING
"""
_TAKE = """
WITH held AS (
    SELECT least(%(burst)s::float8, tokens + %(rate)s::float8
                 * greatest(0, extract(epoch FROM clock_timestamp() - at)::float8)) AS tokens
    FROM consumers.allowance WHERE channel = %(channel)s AND provider = %(provider)s FOR UPDATE
)
UPDATE consumers.allowance a
SET tokens = held.tokens - least(%(wish)s, floor(held.tokens)), at = clock_timestamp()
FROM held WHERE a.channel = %(channel)s AND a.provider = %(provider)s
RETURNING least(%(wish)s, floor(held.tokens))::int
"""


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
        self._pool, self._limits, self._channel, self._clock = pool, limits, channel, clock
        self._left = dict.fromkeys(limits, 0)
        self._until = dict.fromkeys(limits, 0.0)
        self._asked: set[str] = set()

    def permits(self, provider: str) -> bool:
        """Whether one more call may be made now; when not, more is asked for."""
        if provider not in self._limits:
            return True
        if self._left[provider] > 0 and self._clock().timestamp() < self._until[provider]:
            return True
        self._asked.add(provider)
        return False

    def spend(self, provider: str) -> None:
        """One call is made."""
        if provider in self._limits:
            self._left[provider] -= 1

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
        rate = self._limits[provider]
        wish = min(LARGEST_LEASE, max(1, int(rate * LEASE_SECONDS / 4)))
        parameters = {
            "channel": self._channel,
            "provider": provider,
            "rate": rate,
            "burst": max(1.0, rate * BURST_SECONDS),
            "wish": wish,
        }
        with translated():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_TAKE, parameters)).fetchone()
        granted = int(row[0]) if row else 0
        if granted:
            self._asked.discard(provider)
            self._left[provider] = granted
            self._until[provider] = self._clock().timestamp() + LEASE_SECONDS
        return granted

    async def _introduce(self) -> None:
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(_INTRODUCE, (self._channel, list(self._limits)))
