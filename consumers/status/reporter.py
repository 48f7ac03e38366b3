"""What a channel process says of itself: a row in `consumers.worker`, every other second.

The audit service reads these rows for `/v1/channels`; a row that grows old is a process that died.
Providers are probed here too, now and then, without sending anything.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseError, translated
from consumers.routing import Route, Router
from consumers.routing.health import ProviderHealth
from consumers.sdk.error_codes import unknown_codes
from consumers.status.readiness import judged
from schemas.vocabulary import Channel, Mode

log = structlog.get_logger(__name__)

REPORT_SECONDS = 2.0
PROBE_SECONDS = 20.0

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
        routes: Sequence[Route],
        router: Router,
        health: ProviderHealth,
        load: Callable[[], Load],
        clock: Clock = utc_now,
    ) -> None:
        self._pool, self._channel, self._owner = pool, channel, owner
        self._routes, self._router = routes, router
        self._health, self._load, self._clock = health, load, clock
        self.database_problem: str | None = None

    async def run(self) -> None:
        """Report, and probe, until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._report_for_ever())
            both.create_task(self._probe_for_ever())

    async def _report_for_ever(self) -> None:
        while True:
            try:
                await self._report()
                self.database_problem = None
            except DatabaseError as error:
                self.database_problem = str(error)
                log.warning("worker.not_reported", problem=str(error))
            await asyncio.sleep(REPORT_SECONDS)

    async def _probe_for_ever(self) -> None:
        """All at once: one that does not answer keeps nobody from being asked."""
        while True:
            await asyncio.gather(*(self._probe(r) for r in self._routes if r.missing is None))
            await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self, route: Route) -> None:
        problem = await route.provider.probe()
        self._health.probed(route.provider.name, problem, at=self._clock())

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

    async def _report(self) -> None:
        load = self._load()
        row = (
            self._owner,
            self._channel,
            load.in_flight,
            load.lag_messages,
            load.lag_seconds,
            json.dumps([self._provider(route) for route in self._routes]),
        )
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(_REPORT, row)

    def _provider(self, route: Route) -> dict[str, object]:
        name = route.provider.name
        seen = self._health.of(name)
        verdict = judged(
            seen,
            is_simulated=route.kind == "simulated",
            probes=route.probes,
            missing=self._router.needs_setup(name),
            resting=self._router.resting(name),
        )
        return {
            "name": name,
            "kind": route.kind,
            "weight": self._router.standings[name].weight,
            "readiness": verdict.word,
            "problem": verdict.problem,
            "evidence": verdict.evidence,
            "for_tests": Mode.LIVE not in route.takes.modes,
            "probed_at": _text(seen.probed_at if route.probes else None),
            "last_success": _text(seen.last_success),
            "unknown_codes": unknown_codes(self._channel, name),
            "last_error": seen.last_error,
            "last_error_at": _text(seen.last_error_at),
        }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
