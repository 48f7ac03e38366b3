"""Reports the state of a channel process: a row in `consumers.worker`, every other second.

The audit service reads these rows for `/v1/channels`. A row that grows old belongs to a process
that died. The reporter also probes the providers now and then, without sending anything.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseError, translate_errors
from comms.platform.database_retry import run_periodically
from consumers.routing import Route, Router
from consumers.routing.health import ProviderHealth
from consumers.sdk.error_codes import unknown_codes
from consumers.status.readiness import assess
from schemas.vocabulary import Channel, Mode

REPORT_SECONDS = 2.0
PROBE_SECONDS = 20.0

_REPORT = """
INSERT INTO consumers.worker (owner, channel, in_flight, lag_messages, lag_seconds, providers)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (owner) DO UPDATE SET seen_at = now(), in_flight = excluded.in_flight,
    lag_messages = excluded.lag_messages, lag_seconds = excluded.lag_seconds,
    providers = excluded.providers
"""
_DELETE = "DELETE FROM consumers.worker WHERE owner = %s"


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the process is: calls that run, and its lag."""

    in_flight: int
    lag_messages: int
    lag_seconds: float


class Reporter:
    """Writes the row of one process.

    Args:
        owner: the id of the process.
        measure_load: returns the present load; called before each report.

    Attributes:
        database_problem: why the last report failed; None if it did not.
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
        measure_load: Callable[[], Load],
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._channel = channel
        self._owner = owner
        self._routes = routes
        self._router = router
        self._health = health
        self._measure_load = measure_load
        self._clock = clock
        self.database_problem: str | None = None

    async def run(self) -> None:
        """Report and probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                run_periodically(
                    self._report,
                    seconds=REPORT_SECONDS,
                    event="worker.not_reported",
                    retry_on=DatabaseError,
                    on_error=self._remember_problem,
                )
            )
            group.create_task(self._probe_forever())

    async def delete_row(self) -> None:
        """Delete the row: the process ends on purpose.

        Raises:
            DatabaseError: the row stays and grows old.
        """
        with translate_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_DELETE, (self._owner,))

    async def _probe_forever(self) -> None:
        """Probe all providers at once: one that does not answer delays no other."""
        while True:
            await asyncio.gather(*(self._probe(r) for r in self._routes if r.missing is None))
            await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self, route: Route) -> None:
        problem = await route.provider.probe()
        self._health.record_probe(route.provider.name, problem, at=self._clock())

    async def _report(self) -> None:
        load = self._measure_load()
        row = (
            self._owner,
            self._channel,
            load.in_flight,
            load.lag_messages,
            load.lag_seconds,
            json.dumps([self._describe(route) for route in self._routes]),
        )
        with translate_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_REPORT, row)
        self.database_problem = None

    def _remember_problem(self, error: DatabaseError) -> None:
        self.database_problem = str(error)

    def _describe(self, route: Route) -> dict[str, object]:
        """Return a provider as the audit service reads it."""
        name = route.provider.name
        record = self._health.get(name)
        assessment = assess(
            record,
            is_simulated=route.type == "simulated",
            has_probe=route.has_probe,
            setup_problem=self._router.setup_problem(name),
            pause_reason=self._router.pause_reason(name),
        )
        return {
            "name": name,
            "kind": route.type,
            "weight": self._router.states[name].weight,
            "readiness": assessment.readiness,
            "problem": assessment.problem,
            "evidence": assessment.evidence,
            "for_tests": Mode.LIVE not in route.capabilities.modes,
            "probed_at": _format(record.probed_at if route.has_probe else None),
            "last_success": _format(record.last_success),
            "unknown_codes": unknown_codes(self._channel, name),
            "last_error": record.last_error,
            "last_error_at": _format(record.last_error_at),
        }


def _format(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
