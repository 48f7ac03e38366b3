"""Whether messages get out: each channel and provider, with the evidence.

The API and the page ask. What the channel processes report of themselves
(`consumers.worker_report`), what providers answered to the tenant's own messages
(`audit.evidence`), and the last day's counts are put together here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row

from audit.records import Backlog, ChannelState, LastError, ProviderState, Readiness
from comms.platform.database import translate_errors
from comms.platform.masking import mask
from schemas.vocabulary import Channel, Reason

Connection = AsyncConnection[TupleRow]

FRESH_SECONDS = 15  # a process reports every other second
MAX_COUNT = 100_000  # a backlog beyond this is shown as "more than"

_WORKERS = """
SELECT channel, seen_at > now() - make_interval(secs => %s) AS is_alive, seen_at, in_flight,
       lag_messages, lag_seconds, providers
FROM consumers.worker_report ORDER BY seen_at DESC
"""
_EVIDENCE = """
SELECT channel, provider, last_success_at, last_error_at, last_error
FROM audit.evidence WHERE tenant = %s
"""
_COUNTS = """
SELECT channel, provider, status, sum(count)::bigint AS count FROM audit.rollup
WHERE tenant = %s AND hour > now() - interval '25 hours'
GROUP BY 1, 2, 3 HAVING sum(count) > 0
"""
_BACKLOG = "SELECT pending, oldest, scheduled FROM producer.tenant_backlog(%s, %s)"

_Rows = Sequence[Mapping[str, Any]]
_BEST_FIRST = (
    Readiness.LIVE,
    Readiness.SIMULATED,
    Readiness.PROBED,
    Readiness.CONFIGURED,
    Readiness.DEGRADED,
    Readiness.PAUSED,
    Readiness.SETUP_NEEDED,
)


@dataclass(frozen=True, slots=True)
class _Records:
    """The audit service's own records, by channel and provider."""

    evidence: Mapping[tuple[str, str], Mapping[str, Any]]
    counts: Mapping[tuple[str, str], Mapping[str, int]]


async def backlog(connection: Connection, tenant: str) -> Backlog:
    """Count the tenant's messages that wait to be claimed.

    Raises:
        DatabaseError: the database cannot answer now.
    """
    (row,) = await _rows(connection, _BACKLOG, (tenant, MAX_COUNT))
    return Backlog(
        pending=row["pending"],
        more=row["pending"] >= MAX_COUNT,
        oldest=row["oldest"],
        scheduled=row["scheduled"],
    )


async def states(connection: Connection, tenant: str) -> tuple[ChannelState, ...]:
    """Return the state of every channel, in the order of the vocabulary.

    Raises:
        DatabaseError: the database cannot answer now.
    """
    workers = await _rows(connection, _WORKERS, (FRESH_SECONDS,))
    evidence = await _rows(connection, _EVIDENCE, (tenant,))
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in await _rows(connection, _COUNTS, (tenant,)):
        counts[row["channel"], row["provider"]][row["status"]] = row["count"]
    records = _Records({(row["channel"], row["provider"]): row for row in evidence}, counts)
    return tuple(
        _channel(channel, [row for row in workers if row["channel"] == channel], records)
        for channel in Channel
    )


async def _rows(
    connection: Connection, query: str, values: Sequence[object] | Mapping[str, object]
) -> _Rows:
    with translate_errors():
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall()


def _channel(channel: Channel, workers: _Rows, records: _Records) -> ChannelState:
    alive = [row for row in workers if row["is_alive"]]
    latest = workers[0]["providers"] if workers else []
    providers = tuple(_provider(channel, report, records) for report in latest)
    readiness, problem = _readiness(workers, alive, providers)
    errors = [p.last_error for p in providers if p.last_error]
    successes = [p.last_success for p in providers if p.last_success]
    return ChannelState(
        channel=channel,
        readiness=readiness,
        problem=problem,
        consumers=len(alive),
        in_flight=sum(row["in_flight"] for row in alive),
        lag_messages=sum(row["lag_messages"] for row in alive),
        lag_seconds=round(max((row["lag_seconds"] for row in alive), default=0.0), 3),
        last_success=max(successes, default=None),
        last_error=max(errors, key=lambda error: error.at, default=None),
        counts=_total(counts for (of, _), counts in records.counts.items() if of == channel),
        providers=providers,
    )


def _readiness(
    workers: _Rows, alive: _Rows, providers: Sequence[ProviderState]
) -> tuple[Readiness, str | None]:
    if not workers:
        return Readiness.DEGRADED, "no consumer is running"
    if not alive:
        seen = workers[0]["seen_at"].isoformat(timespec="seconds")
        return Readiness.DEGRADED, f"no consumer has reported since {seen}"
    if not providers:
        return Readiness.SETUP_NEEDED, "no provider is configured"
    live = [provider for provider in providers if not provider.for_tests] or providers
    best = min(live, key=lambda provider: _BEST_FIRST.index(provider.readiness))
    return best.readiness, best.problem


def _provider(channel: Channel, report: Mapping[str, Any], records: _Records) -> ProviderState:
    evidence = records.evidence.get((channel, report["name"]), {})
    readiness, grounds = _readiness_of(report, evidence.get("last_success_at"))
    probed_at = report.get("probed_at")
    return ProviderState(
        name=report["name"],
        kind=report.get("kind", report["name"]),
        readiness=readiness,
        problem=report.get("problem"),
        evidence=grounds,
        weight=int(report.get("weight", 0)),
        for_tests=bool(report.get("for_tests")),
        probed_at=datetime.fromisoformat(probed_at) if probed_at else None,
        last_success=evidence.get("last_success_at"),
        last_error=_last_error(evidence.get("last_error_at"), evidence.get("last_error")),
        unknown_codes=report.get("unknown_codes") or {},
        counts=records.counts.get((channel, report["name"]), {}),
    )


def _readiness_of(
    report: Mapping[str, Any], last_success: datetime | None
) -> tuple[Readiness, str | None]:
    """Return a provider's readiness and its grounds.

    A process knows what happened since it started; a success before that is in the records.
    """
    readiness = Readiness(report.get("readiness", Readiness.DEGRADED))
    if readiness in (Readiness.PROBED, Readiness.CONFIGURED) and last_success is not None:
        at = last_success.isoformat(timespec="seconds")
        return Readiness.LIVE, f"it took a message at {at}"
    return readiness, report.get("evidence")


def _last_error(at: datetime | None, error: Mapping[str, Any] | None) -> LastError | None:
    if at is None or error is None:
        return None
    return LastError(
        at=at,
        message_id=UUID(error["message_id"]),
        reason=Reason(error["reason"]),
        code=error["code"],
        detail=None if error["detail"] is None else mask(error["detail"]),
    )


def _total(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for part in parts:
        for status, count in part.items():
            total[status] += count
    return dict(total)
