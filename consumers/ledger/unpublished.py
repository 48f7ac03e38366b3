"""Finds events that stand in the ledger and that the audit service has not recorded.

`consumers.pipeline.recovery` calls this, and publishes the events again. Each call takes three
reads, because no statement names the tables of two services (docs/adr/0013): how far the audit
service has recorded, the ledger's own candidates, and which of them are recorded. Every read is
newer than the one before it. An event recorded in between is therefore seen as recorded, and one
settled in between is a candidate of the next look. An error in either direction would repeat an
event, which the audit service recognises by its id; none would lose one.

Candidates are read through a cursor, a page at a time: a look far back has millions of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from consumers.ledger.decisions import LedgerEntry
from consumers.ledger.store import entry_of
from schemas.topics import STATUS
from schemas.vocabulary import Channel

PAGE = 1000

_PROGRESS = """
SELECT extract(epoch FROM clock_timestamp() - recorded_until)::float8,
    extract(epoch FROM clock_timestamp() - active_at)::float8
FROM audit.recording_progress WHERE topic = %s
"""

# The window's bounds are of statement_timestamp(), because an index serves no condition on
# clock_timestamp(), which may change from row to row.
_WINDOW = """
BETWEEN statement_timestamp() - make_interval(secs => %(oldest)s)
    AND statement_timestamp() - make_interval(secs => %(newest)s)
"""
_OUTCOME_CANDIDATES = f"""
SELECT message_id, attempt, o.status, o.reason
FROM consumers.outcome o JOIN consumers.attempt a USING (message_id, attempt)
WHERE a.channel = %(channel)s AND o.status <> 'cancelled' AND o.occurred_at {_WINDOW}
UNION ALL
SELECT message_id, attempt, 'sending', 'resent' FROM consumers.attempt
WHERE channel = %(channel)s AND nonce IS NOT NULL AND claimed_at {_WINDOW}
"""  # noqa: S608 - constants of this module
_UNRECORDED_OUTCOMES = """
SELECT c.n::int
FROM unnest(%b::uuid[], %b::int[], %b::text[], %b::text[])
    WITH ORDINALITY AS c (message_id, attempt, status, reason, n)
WHERE NOT EXISTS (SELECT FROM audit.recorded_event e WHERE e.message_id = c.message_id
                  AND e.attempt = c.attempt AND e.status = c.status AND e.reason = c.reason)
"""
_OUTCOMES = """
SELECT c.message_id, first.value, c.attempt, a.provider, 0::float8, c.status, c.reason,
    coalesce(o.occurred_at, a.claimed_at), o.provider_message_id, o.code, o.detail, o.response
FROM unnest(%b::uuid[], %b::int[], %b::text[], %b::text[])
    AS c (message_id, attempt, status, reason)
JOIN consumers.attempt a ON a.message_id = c.message_id AND a.attempt = c.attempt
JOIN consumers.attempt first ON first.message_id = c.message_id AND first.attempt = 1
LEFT JOIN consumers.outcome o ON o.message_id = c.message_id AND o.attempt = c.attempt
    AND o.status = c.status AND o.reason = c.reason
WHERE first.value IS NOT NULL
ORDER BY 8
"""
_RECEIPT_CANDIDATES = f"""
SELECT message_id, event_id FROM consumers.receipt
WHERE channel = %(channel)s AND taken_at {_WINDOW}
"""  # noqa: S608 - constants of this module
_UNRECORDED_RECEIPTS = """
SELECT c.n::int FROM unnest(%b::uuid[], %b::uuid[]) WITH ORDINALITY AS c (message_id, event_id, n)
WHERE NOT EXISTS (SELECT FROM audit.recorded_event e
                  WHERE e.message_id = c.message_id AND e.id = c.event_id)
"""
_RECEIPTS = """
SELECT r.message_id, r.value
FROM unnest(%b::uuid[], %b::uuid[]) AS c (message_id, event_id)
JOIN consumers.receipt r ON r.message_id = c.message_id AND r.event_id = c.event_id
ORDER BY r.taken_at
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the audit service has recorded the status topic, in seconds ago.

    Args:
        recorded: what was published before this is recorded.
        active: when it last recorded something, or had nothing to record.
    """

    recorded: float
    active: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of time in seconds ago."""

    oldest: float
    newest: float


class UnpublishedEvents:
    """Events of one channel that the audit service does not have.

    Every method raises `DatabaseUnavailableError` when the database cannot answer now.
    """

    def __init__(self, pool: AsyncConnectionPool, *, channel: Channel) -> None:
        self._pool = pool
        self._channel = channel

    async def progress(self) -> Progress | None:
        """Return how far the audit service has come; None before it has recorded anything."""
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_PROGRESS, (STATUS,))
                row = await cursor.fetchone()
        return None if row is None else Progress(*row)

    async def outcomes(
        self, window: Window, *, limit: int
    ) -> list[tuple[UUID, bytes, LedgerEntry]]:
        """Find settled attempts, and resends that began, whose event is not recorded.

        Returns:
            The message's id, its encoded form and the attempt, oldest first; `limit` at most.
        """
        with translate_errors():
            async with self._pool.connection() as connection, connection.transaction():
                rows = await self._unrecorded(
                    connection, _OUTCOME_CANDIDATES, _UNRECORDED_OUTCOMES, window, limit
                )
                cursor = await connection.execute(_OUTCOMES, _columns(rows, 4))
                return [
                    (row[0], bytes(row[1]), entry_of(row[2:])) for row in await cursor.fetchall()
                ]

    async def receipts(self, window: Window, *, limit: int) -> list[tuple[UUID, bytes]]:
        """Find receipts whose event is not recorded.

        Returns:
            The message's id and the encoded event, oldest first; `limit` at most.
        """
        with translate_errors():
            async with self._pool.connection() as connection, connection.transaction():
                rows = await self._unrecorded(
                    connection, _RECEIPT_CANDIDATES, _UNRECORDED_RECEIPTS, window, limit
                )
                cursor = await connection.execute(_RECEIPTS, _columns(rows, 2))
                return [(row[0], bytes(row[1])) for row in await cursor.fetchall()]

    async def _unrecorded(
        self,
        connection: AsyncConnection,
        candidates: str,
        unrecorded: str,
        window: Window,
        limit: int,
    ) -> list[tuple[Any, ...]]:
        """Return candidates that are not recorded: the first `limit` of them, in no order."""
        values = {"channel": self._channel, "oldest": window.oldest, "newest": window.newest}
        missing: list[tuple[Any, ...]] = []
        async with connection.cursor("candidates", binary=True) as cursor:
            await cursor.execute(candidates, values)
            while len(missing) < limit and (page := await cursor.fetchmany(PAGE)):
                answer = await connection.execute(unrecorded, _columns(page, len(page[0])))
                missing += [page[n - 1] for (n,) in await answer.fetchall()]
        return missing[:limit]


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Arrays for unnest, one for each column."""
    return [[row[n] for row in rows] for n in range(width)]
