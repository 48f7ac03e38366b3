"""What a channel process says of itself: a row in `consumers.worker`, every other second.

The audit service reads these rows for `/v1/channels`; a row that grows old is a process that died.
Providers are probed here too, now and then, without sending anything.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.database import DatabaseError, translated
from consumers.health import ProviderHealth
from consumers.routing import Route, Router
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

REPORT_SECONDS = 2.0
PROBE_EVERY = 10  # reports

_REPORT = """
INSERT INTO consumers.worker (owner, channel, in_flight, lag_messages, lag_seconds, providers)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (owner) DO UPDATE SET seen_at = now(), in_flight = excluded.in_flight,
    lag_messages = excluded.lag_messages, lag_seconds = excluded.lag_seconds,
    providers = excluded.providers
"""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the process is; lag in messages and in seconds."""

    in_flight: int
    lag_messages: int
    lag_seconds: float


class Reporter:
    """Writes the process's row.

    Args:
        load: asked for the present load before each report.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        *,
        channel: Channel,
        owner: UUID,
        routes: Sequence[tuple[Route, str]],
        router: Router,
        health: ProviderHealth,
        load: Callable[[], Load],
    ) -> None:
        self._pool, self._channel, self._owner = pool, channel, owner
        self._routes, self._router = routes, router
        self._health, self._load = health, load
        self.database_problem: str | None = None

    async def run(self) -> None:
        """Report until cancelled."""
        reports = 0
        while True:
            if reports % PROBE_EVERY == 0:
                await self._probe()
            reports += 1
            try:
                await self._report()
                self.database_problem = None
            except DatabaseError as error:
                self.database_problem = str(error)
                log.warning("worker.not_reported", problem=str(error))
            await asyncio.sleep(REPORT_SECONDS)

    async def leave(self) -> None:
        """Take the row away: the process ends on purpose.

        Raises:
            DatabaseError: the row stays and grows old.
        """
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(
                    "DELETE FROM consumers.worker WHERE owner = %s", (self._owner,)
                )

    async def _probe(self) -> None:
        for route, _ in self._routes:
            if route.missing is not None:
                continue
            problem = await route.provider.probe()
            self._health.of(route.provider.name).problem = problem

    async def _report(self) -> None:
        load = self._load()
        row = (
            self._owner,
            self._channel,
            load.in_flight,
            load.lag_messages,
            load.lag_seconds,
            json.dumps([self._provider(route, kind) for route, kind in self._routes]),
        )
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(_REPORT, row)

    def _provider(self, route: Route, kind: str) -> dict[str, object]:
        name = route.provider.name
        seen, resting = self._health.of(name), self._router.resting(name)
        missing = self._router.needs_setup(name)
        return {
            "name": name,
            "kind": kind,
            "weight": self._router.standings[name].weight,
            "readiness": _readiness(kind, missing, resting, seen.problem),
            "problem": missing or resting or seen.problem,
            "last_success": seen.last_success.isoformat() if seen.last_success else None,
            "last_error": seen.last_error,
            "last_error_at": seen.last_error_at.isoformat() if seen.last_error_at else None,
        }


def _readiness(kind: str, missing: str | None, resting: str | None, problem: str | None) -> str:
    if missing is not None:
        return "setup_needed"
    if resting is not None:
        return "paused"
    if problem is not None:
        return "degraded"
    return "simulated" if kind == "simulated" else "live"
