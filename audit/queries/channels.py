"""Whether messages get out: each channel and provider, with the evidence.

What the channel processes say of themselves (`consumers.worker`), what providers said to the
tenant's own messages (`audit.evidence`), and the last day's counts are put together here.
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
from comms.platform.database import translated
from comms.platform.masking import masked
from schemas.vocabulary import Channel, Reason

Connection = AsyncConnection[TupleRow]

FRESH_SECONDS = 15  # a process reports every other second
COUNT_AT_MOST = 100_000  # a backlog beyond this is told as "more than"

_WORKERS = """
SELECT channel, seen_at > now() - make_interval(secs => %s) AS alive, seen_at, in_flight,
       lag_messages, lag_seconds, providers
FROM consumers.worker ORDER BY seen_at DESC
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
_BACKLOG = """
SELECT count(*) AS pending, min(enqueued_at) AS oldest,
       (SELECT count(*) FROM (SELECT FROM producer.scheduled
                              WHERE starts_with(key, %(prefix)s) LIMIT %(most)s) AS s) AS scheduled
FROM (SELECT enqueued_at FROM producer.outbox
      WHERE starts_with(key, %(prefix)s) LIMIT %(most)s) AS waiting
"""

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
class _Known:
    """What was read, by channel and provider."""

    evidence: Mapping[tuple[str, str], Mapping[str, Any]]
    counts: Mapping[tuple[str, str], Mapping[str, int]]


async def backlog(connection: Connection, tenant: str) -> Backlog:
    """What of the tenant's messages waits to be taken up.

    Raises:
        DatabaseError: it cannot be told now.
    """
    values = {"prefix": f"{tenant}:", "most": COUNT_AT_MOST}
    (row,) = await _rows(connection, _BACKLOG, values)
    return Backlog(
        pending=row["pending"],
        more=row["pending"] >= COUNT_AT_MOST,
        oldest=row["oldest"],
        scheduled=row["scheduled"],
    )


async def states(connection: Connection, tenant: str) -> tuple[ChannelState, ...]:
    """Every channel, in the order of the vocabulary.

    Raises:
        DatabaseError: it cannot be told now.
    """
    workers = await _rows(connection, _WORKERS, (FRESH_SECONDS,))
    evidence = await _rows(connection, _EVIDENCE, (tenant,))
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in await _rows(connection, _COUNTS, (tenant,)):
        counts[row["channel"], row["provider"]][row["status"]] = row["count"]
    known = _Known({(row["channel"], row["provider"]): row for row in evidence}, counts)
    return tuple(
        _channel(channel, [row for row in workers if row["channel"] == channel], known)
        for channel in Channel
    )


async def _rows(
    connection: Connection, query: str, values: Sequence[object] | Mapping[str, object]
) -> _Rows:
    with translated():
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall()


def _channel(channel: Channel, workers: _Rows, known: _Known) -> ChannelState:
    alive = [row for row in workers if row["alive"]]
    latest = workers[0]["providers"] if workers else []
    providers = tuple(_provider(channel, said, known) for said in latest)
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
        counts=_total(counts for (of, _), counts in known.counts.items() if of == channel),
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
    meant = [provider for provider in providers if not provider.for_tests] or providers
    best = min(meant, key=lambda provider: _BEST_FIRST.index(provider.readiness))
    return best.readiness, best.problem


def _provider(channel: Channel, said: Mapping[str, Any], known: _Known) -> ProviderState:
    found = known.evidence.get((channel, said["name"]), {})
    readiness, evidence = _by_evidence(said, found.get("last_success_at"))
    probed_at = said.get("probed_at")
    return ProviderState(
        name=said["name"],
        kind=said.get("kind", said["name"]),
        readiness=readiness,
        problem=said.get("problem"),
        evidence=evidence,
        weight=int(said.get("weight", 0)),
        for_tests=bool(said.get("for_tests")),
        probed_at=datetime.fromisoformat(probed_at) if probed_at else None,
        last_success=found.get("last_success_at"),
        last_error=_last_error(found.get("last_error_at"), found.get("last_error")),
        unknown_codes=said.get("unknown_codes") or {},
        counts=known.counts.get((channel, said["name"]), {}),
    )


def _by_evidence(
    said: Mapping[str, Any], last_success: datetime | None
) -> tuple[Readiness, str | None]:
    """What a process says of a provider, and what the store knows of the time before it began."""
    readiness = Readiness(said.get("readiness", Readiness.DEGRADED))
    if readiness in (Readiness.PROBED, Readiness.CONFIGURED) and last_success is not None:
        at = last_success.isoformat(timespec="seconds")
        return Readiness.LIVE, f"it took a message at {at}"
    return readiness, said.get("evidence")


def _last_error(at: datetime | None, said: Mapping[str, Any] | None) -> LastError | None:
    if at is None or said is None:
        return None
    return LastError(
        at=at,
        message_id=UUID(said["message_id"]),
        reason=Reason(said["reason"]),
        code=said["code"],
        detail=None if said["detail"] is None else masked(said["detail"]),
    )


def _total(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for part in parts:
        for status, count in part.items():
            total[status] += count
    return dict(total)
