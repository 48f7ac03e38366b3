"""Keeps the processes of a channel in step: calls counted, weights moved, breakers opened.

A task in each process writes what the process saw since the last time, adjusts the weights unless
another process is doing it, and takes over the shared state. It is not on the path of a message.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform import metrics
from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseError, translate_errors
from comms.platform.database_retry import run_periodically
from comms.platform.settings import RoutingPolicy
from consumers.routing.router import Router, RouteState
from consumers.routing.weights import CallCounts, Share, adjust_share
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

SYNC_SECONDS = 2.0
SLOT_SECONDS = 10
_LOCKS = 7_202  # advisory locks of this module, one a channel

_INSERT_ROUTES = """
INSERT INTO consumers.route (channel, provider, weight)
SELECT %s, provider, weight FROM unnest(%s::text[], %s::int[]) AS r (provider, weight)
ON CONFLICT DO NOTHING
"""
_ADD_COUNTS = """
INSERT INTO consumers.route_slot (channel, provider, slot, calls, errors, slow)
SELECT %s, provider, date_bin(make_interval(secs => %s), now(), 'epoch'), calls, errors, slow
FROM unnest(%s::text[], %s::int[], %s::int[], %s::int[]) AS c (provider, calls, errors, slow)
ON CONFLICT (channel, provider, slot) DO UPDATE SET calls = route_slot.calls + excluded.calls,
    errors = route_slot.errors + excluded.errors, slow = route_slot.slow + excluded.slow
"""
_WRITE_BREAKERS = """
UPDATE consumers.route r SET rest_seconds = b.rest, problem = b.problem,
    open_until = CASE WHEN b.remaining IS NOT NULL
                      THEN clock_timestamp() + make_interval(secs => b.remaining) END
FROM unnest(%s::text[], %s::float8[], %s::float8[], %s::text[])
    AS b (provider, remaining, rest, problem)
WHERE r.channel = %s AND r.provider = b.provider
"""
_SUM_COUNTS = """
SELECT r.provider, r.weight,
    extract(epoch FROM r.changed_at)::float8, extract(epoch FROM now())::float8,
    coalesce(sum(s.calls), 0)::int, coalesce(sum(s.errors), 0)::int,
    coalesce(sum(s.slow), 0)::int, r.open_until IS NOT NULL
FROM consumers.route r
LEFT JOIN consumers.route_slot s ON s.channel = r.channel AND s.provider = r.provider
    AND s.slot >= now() - make_interval(secs => %s) AND s.slot < now() - make_interval(secs => %s)
WHERE r.channel = %s AND r.provider = ANY(%s) GROUP BY r.channel, r.provider
"""
_SET_WEIGHT = """
UPDATE consumers.route SET weight = %s, changed_at = to_timestamp(%s)
WHERE channel = %s AND provider = %s
"""
_LOCK = "SELECT pg_try_advisory_xact_lock(%s, %s)"
_DELETE_OLD_COUNTS = """
DELETE FROM consumers.route_slot WHERE channel = %s AND slot < now() - interval '1 h'
"""
_READ_ROUTES = """
SELECT provider, weight, problem, rest_seconds,
    extract(epoch FROM open_until - clock_timestamp())::float8
FROM consumers.route WHERE channel = %s
"""


@dataclass(frozen=True, slots=True)
class _SharedRoute:
    """What all processes share about one provider; `open_for` in seconds from now."""

    provider: str
    weight: int
    problem: str | None
    rest: float
    open_for: float | None


class RouteSharing:
    """Keeps one process's router in step with the others."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        router: Router,
        *,
        channel: Channel,
        policy: RoutingPolicy,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._router = router
        self._channel = channel
        self._policy = policy
        self._clock = clock

    async def run(self) -> None:
        """Synchronize until cancelled. Without the database each process uses its own view."""
        await run_periodically(
            self.synchronize,
            seconds=SYNC_SECONDS,
            event="routing.not_shared",
            retry_on=DatabaseError,
        )

    async def synchronize(self) -> None:
        """Write what was seen here, adjust the weights, and take over the shared state.

        Raises:
            DatabaseError: nothing was written. What was seen is kept for the next time.
        """
        states = dict(self._router.states)
        written = {name: state.counts for name, state in states.items()}
        unshared = [state for state in states.values() if state.breaker.is_unshared]
        with translate_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await self._insert_routes(connection, states.values())
                await self._add_counts(connection, written)
                await self._write_breakers(connection, unshared)
                if len(states) > 1:
                    await self._adjust_weights(connection)
                shared = await self._read(connection)
        for name, counts in written.items():
            states[name].counts = states[name].counts.minus(counts)
        for state in unshared:
            state.breaker.is_unshared = False
        self._take_over(shared)

    async def _insert_routes(
        self, connection: AsyncConnection, states: Iterable[RouteState]
    ) -> None:
        routes = [state.route for state in states]
        names, weights = [r.provider.name for r in routes], [r.weight for r in routes]
        await connection.execute(_INSERT_ROUTES, (self._channel, names, weights))

    async def _add_counts(
        self, connection: AsyncConnection, by_provider: dict[str, CallCounts]
    ) -> None:
        active = {name: counts for name, counts in by_provider.items() if counts.calls}
        if not active:
            return
        columns = (
            list(active),
            [counts.calls for counts in active.values()],
            [counts.errors for counts in active.values()],
            [counts.slow for counts in active.values()],
        )
        await connection.execute(_ADD_COUNTS, (self._channel, SLOT_SECONDS, *columns))

    async def _write_breakers(
        self, connection: AsyncConnection, unshared: Sequence[RouteState]
    ) -> None:
        if not unshared:
            return
        now = self._clock().timestamp()
        until = [state.breaker.open_until for state in unshared]
        parameters = (
            [state.route.provider.name for state in unshared],
            [None if at is None else max(0.0, at - now) for at in until],
            [state.breaker.rest for state in unshared],
            [(state.problem or "").replace("\x00", "")[:500] for state in unshared],
            self._channel,
        )
        await connection.execute(_WRITE_BREAKERS, parameters)

    async def _adjust_weights(self, connection: AsyncConnection) -> None:
        """Adjust the weights by the counts of all processes, unless another process does."""
        number = list(Channel).index(self._channel)
        cursor = await connection.execute(_LOCK, (_LOCKS, number))
        if (await cursor.fetchone()) != (True,):
            return
        configured = {name: state.route.weight for name, state in self._router.states.items()}
        span = (self._policy.window_seconds, SLOT_SECONDS)
        cursor = await connection.execute(_SUM_COUNTS, (*span, self._channel, list(configured)))
        for name, weight, changed_at, now, *counts, is_open in await cursor.fetchall():
            share = Share(weight, changed_at)
            adjusted = adjust_share(
                share,
                CallCounts(*counts),
                configured=configured[name],
                policy=self._policy,
                now=now,
                is_open=is_open,
            )
            if adjusted != share:
                await self._set_share(connection, name, share, adjusted)
        await connection.execute(_DELETE_OLD_COUNTS, (self._channel,))

    async def _set_share(
        self, connection: AsyncConnection, name: str, before: Share, after: Share
    ) -> None:
        if after.weight != before.weight:
            log.warning("routing.weight", provider=name, was=before.weight, now=after.weight)
        values = (after.weight, after.changed_at, self._channel, name)
        await connection.execute(_SET_WEIGHT, values)

    async def _read(self, connection: AsyncConnection) -> list[_SharedRoute]:
        cursor = await connection.execute(_READ_ROUTES, (self._channel,))
        return [_SharedRoute(*row) for row in await cursor.fetchall()]

    def _take_over(self, shared: Sequence[_SharedRoute]) -> None:
        now = self._clock().timestamp()
        for route in shared:
            state = self._router.states.get(route.provider)
            if state is None:
                continue
            state.weight = route.weight
            if not state.breaker.is_unshared:
                until = None if route.open_for is None else now + route.open_for
                if state.breaker.merge_shared(until, route.rest):
                    state.problem = route.problem or state.problem
            metrics.provider_weight.labels(self._channel, route.provider).set(route.weight)
            is_open = state.breaker.open_until is not None
            metrics.provider_left_alone.labels(self._channel, route.provider).set(is_open)
