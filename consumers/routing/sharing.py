"""The processes of a channel compare notes: calls counted, weights moved, breakers opened.

A task in each process writes what it saw since the last time, lets the weights be judged if no
other process is at it, and takes over what all have come to. Nothing here is on a message's path.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform import metrics
from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseError, translated
from comms.platform.settings import RoutingPolicy
from consumers.routing.router import Router, RouteState
from consumers.routing.weights import Share, Window, judge
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
SLOT_SECONDS = 10
_LOCKS = 7_202  # advisory locks of this module, one a channel

_INTRODUCE = """
INSERT INTO consumers.route (channel, provider, weight)
SELECT %s, provider, weight FROM unnest(%s::text[], %s::int[]) AS r (provider, weight)
ON CONFLICT DO NOTHING
"""
_COUNT = """
INSERT INTO consumers.route_slot (channel, provider, slot, calls, errors, slow)
SELECT %s, provider, date_bin(make_interval(secs => %s), now(), 'epoch'), calls, errors, slow
FROM unnest(%s::text[], %s::int[], %s::int[], %s::int[]) AS c (provider, calls, errors, slow)
ON CONFLICT (channel, provider, slot) DO UPDATE SET calls = route_slot.calls + excluded.calls,
    errors = route_slot.errors + excluded.errors, slow = route_slot.slow + excluded.slow
"""
_BREAK = """
UPDATE consumers.route r SET rest_seconds = b.rest, problem = b.problem,
    open_until = CASE WHEN b.remaining IS NOT NULL
                      THEN clock_timestamp() + make_interval(secs => b.remaining) END
FROM unnest(%s::text[], %s::float8[], %s::float8[], %s::text[])
    AS b (provider, remaining, rest, problem)
WHERE r.channel = %s AND r.provider = b.provider
"""
_SUMS = """
SELECT r.provider, r.weight,
    extract(epoch FROM r.changed_at)::float8, extract(epoch FROM now())::float8,
    coalesce(sum(s.calls), 0)::int, coalesce(sum(s.errors), 0)::int,
    coalesce(sum(s.slow), 0)::int, r.open_until IS NOT NULL
FROM consumers.route r
LEFT JOIN consumers.route_slot s ON s.channel = r.channel AND s.provider = r.provider
    AND s.slot >= now() - make_interval(secs => %s) AND s.slot < now() - make_interval(secs => %s)
WHERE r.channel = %s AND r.provider = ANY(%s) GROUP BY r.channel, r.provider
"""
_MOVE = """
UPDATE consumers.route SET weight = %s, changed_at = to_timestamp(%s)
WHERE channel = %s AND provider = %s
"""
_READ = """
SELECT provider, weight, problem, rest_seconds,
    extract(epoch FROM open_until - clock_timestamp())::float8
FROM consumers.route WHERE channel = %s
"""


@dataclass(frozen=True, slots=True)
class _Word:
    """What all processes have come to about one provider; `open_for` in seconds from now."""

    provider: str
    weight: int
    problem: str | None
    rest: float
    open_for: float | None


class Sharing:
    """Keeps one process's router in step with the others'."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        router: Router,
        *,
        channel: Channel,
        policy: RoutingPolicy,
        clock: Clock = utc_now,
    ) -> None:
        self._pool, self._router, self._channel = pool, router, channel
        self._policy, self._clock = policy, clock

    async def run(self) -> None:
        """Compare notes until cancelled."""
        while True:
            try:
                await self.compare()
            except DatabaseError as error:  # each process goes on by what it sees itself
                log.warning("routing.not_shared", problem=str(error))
            await asyncio.sleep(EVERY_SECONDS)

    async def compare(self) -> None:
        """Write what was seen here, judge, and take over what all have come to.

        Raises:
            DatabaseError: nothing was written; what was seen is kept for the next time.
        """
        standings = dict(self._router.standings)
        seen = {name: standing.seen for name, standing in standings.items()}
        changed = [standing for standing in standings.values() if standing.breaker.changed]
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await self._introduce(connection, standings.values())
                await self._count(connection, seen)
                await self._break(connection, changed)
                if len(standings) > 1:
                    await self._judge(connection)
                words = await self._read(connection)
        for name, window in seen.items():
            kept = standings[name].seen
            standings[name].seen = Window(
                kept.calls - window.calls, kept.errors - window.errors, kept.slow - window.slow
            )
        for standing in changed:
            standing.breaker.changed = False
        self._adopt(words)

    async def _introduce(
        self, connection: AsyncConnection, standings: Iterable[RouteState]
    ) -> None:
        routes = [standing.route for standing in standings]
        names, weights = [r.provider.name for r in routes], [r.weight for r in routes]
        await connection.execute(_INTRODUCE, (self._channel, names, weights))

    async def _count(self, connection: AsyncConnection, seen: dict[str, Window]) -> None:
        active = {name: window for name, window in seen.items() if window.calls}
        if active:
            windows = active.values()
            counts = (
                [w.calls for w in windows],
                [w.errors for w in windows],
                [w.slow for w in windows],
            )
            await connection.execute(_COUNT, (self._channel, SLOT_SECONDS, list(active), *counts))

    async def _break(self, connection: AsyncConnection, changed: Sequence[RouteState]) -> None:
        if not changed:
            return
        now = self._clock().timestamp()
        until = [standing.breaker.open_until for standing in changed]
        parameters = (
            [standing.route.provider.name for standing in changed],
            [None if at is None else max(0.0, at - now) for at in until],
            [standing.breaker.rest for standing in changed],
            [(standing.problem or "").replace("\x00", "")[:500] for standing in changed],
            self._channel,
        )
        await connection.execute(_BREAK, parameters)

    async def _judge(self, connection: AsyncConnection) -> None:
        number = list(Channel).index(self._channel)
        cursor = await connection.execute(
            "SELECT pg_try_advisory_xact_lock(%s, %s)", (_LOCKS, number)
        )
        if (await cursor.fetchone()) != (True,):
            return
        configured = {n: s.route.weight for n, s in self._router.standings.items()}
        span = (self._policy.window_seconds, SLOT_SECONDS)
        cursor = await connection.execute(_SUMS, (*span, self._channel, list(configured)))
        for name, weight, changed_at, now, *window, left_alone in await cursor.fetchall():
            share = Share(weight, changed_at)
            moved = judge(
                share,
                Window(*window),
                configured=configured[name],
                policy=self._policy,
                now=now,
                left_alone=left_alone,
            )
            if moved != share:
                if moved.weight != share.weight:
                    log.warning("routing.weight", provider=name, was=weight, now=moved.weight)
                values = (moved.weight, moved.changed_at, self._channel, name)
                await connection.execute(_MOVE, values)
        await connection.execute(
            "DELETE FROM consumers.route_slot WHERE channel = %s AND slot < now() - interval '1 h'",
            (self._channel,),
        )

    async def _read(self, connection: AsyncConnection) -> list[_Word]:
        cursor = await connection.execute(_READ, (self._channel,))
        return [_Word(*row) for row in await cursor.fetchall()]

    def _adopt(self, words: Sequence[_Word]) -> None:
        now = self._clock().timestamp()
        for word in words:
            standing = self._router.standings.get(word.provider)
            if standing is None:
                continue
            standing.weight = word.weight
            if not standing.breaker.changed:
                until = None if word.open_for is None else now + word.open_for
                if standing.breaker.adopt(until, word.rest):
                    standing.problem = word.problem or standing.problem
            metrics.provider_weight.labels(self._channel, word.provider).set(word.weight)
            alone = standing.breaker.open_until is not None
            metrics.provider_left_alone.labels(self._channel, word.provider).set(alone)
