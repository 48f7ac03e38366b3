"""The SQL statements that accept messages, without a connection to run them on.

`accept` is a generator. It yields a statement, receives its rows, and returns the result of each
message. `producer.connections` runs it on the connection that the caller has. All kinds of
connections therefore run the same statements.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json import dumps
from typing import Any
from uuid import UUID

from schemas.messages import Message
from schemas.vocabulary import Status

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL statement in psycopg's notation, and its parameters."""

    sql: str
    parameters: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"Statement({len(self.parameters)} parameters)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message that is ready to be written: encoded, hashed, with its topic.

    Args:
        due_at: the message's `send_at` if it is in the future; None if the message goes to the
            queue at once.
    """

    message: Message
    idempotency_key: str | None
    body_hash: bytes
    topic: str
    value: bytes
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The message is in the outbox once the transaction commits.

    Args:
        id: the id of the message; for a replay, the id of the original message.
        status: the current status: `pending`, unless it is a replay.
        replayed: whether the same key and content were accepted before, so that nothing was added.
        created_at: when the message was first accepted.
    """

    id: UUID
    status: Status
    replayed: bool
    created_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """The idempotency key belongs to message `id`, which has other content; nothing was added."""

    id: UUID


Result = Enqueued | KeyConflict
Plan = Generator[Statement, Sequence[Row], tuple[Result, ...]]


class KeyVanishedError(Exception):
    """A message was deleted between two statements; run the transaction again."""


# This is one statement, so that a connection in autocommit mode also writes all of it or nothing.
# All callers insert keys in the same order, so that two callers with common keys cannot deadlock.
# The queue is filled in the caller's order, which is the order of delivery for one recipient.
# The parameters are binary (`%b`), because text arrays are escaped item by item, which takes twenty
# times as long.
_INSERT = """
WITH entry AS MATERIALIZED (
    SELECT * FROM unnest(
        %b::int[], %b::uuid[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[],
        %b::text[], %b::text[], %b::text[], %b::timestamptz[], %b::timestamptz[],
        %b::timestamptz[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::timestamptz[]
    ) AS e (n, id, tenant, idempotency_key, body_hash, channel, recipient, customer_id, workflow,
            priority, created_at, send_at, expires_at, metadata, topic, key, value, due_at)
), accepted AS (
    INSERT INTO producer.message (id, tenant, idempotency_key, body_hash, channel, recipient,
        customer_id, workflow, priority, created_at, send_at, expires_at, metadata)
    SELECT id, tenant, idempotency_key, body_hash, channel, recipient, customer_id, workflow,
        priority, created_at, send_at, expires_at, metadata::jsonb
    FROM entry ORDER BY tenant COLLATE "C", idempotency_key COLLATE "C", n
    ON CONFLICT DO NOTHING
    RETURNING id, body_hash
), winner AS (
    SELECT DISTINCT ON (entry.id) entry.*
    FROM entry JOIN accepted USING (id, body_hash) ORDER BY entry.id, n
), queued AS (
    INSERT INTO producer.outbox (message_id, topic, key, value)
    SELECT id, topic, key, value FROM winner WHERE due_at IS NULL ORDER BY n
), waiting AS (
    INSERT INTO producer.scheduled (message_id, topic, key, value, due_at)
    SELECT id, topic, key, value, due_at FROM winner WHERE due_at IS NOT NULL
)
SELECT n FROM winner
"""

# This is a separate statement, because it needs a new snapshot. It sees the rows of a concurrent
# transaction that the insert waited for.
_LOOK_UP = """
SELECT e.n, m.id, m.created_at, m.tenant = e.tenant AND m.body_hash = e.body_hash
FROM unnest(%b::int[], %b::uuid[], %b::text[], %b::text[], %b::bytea[])
    AS e (n, id, tenant, idempotency_key, body_hash)
CROSS JOIN LATERAL (
    SELECT id, tenant, body_hash, created_at FROM producer.message
    WHERE tenant = e.tenant AND idempotency_key = e.idempotency_key
    UNION ALL
    SELECT id, tenant, body_hash, created_at FROM producer.message WHERE id = e.id
    LIMIT 1
) m
"""

# Runs only if a key is repeated. The status may be newer than the look-up, never older. A message
# that is not in the ledger, or not any more, is returned as pending.
_STATUSES = "SELECT message_id, status FROM consumers.delivery_status(%b::uuid[])"


def accept(entries: Sequence[Entry]) -> Plan:
    """Write `entries`, and return a result for each, in order.

    Raises:
        KeyVanishedError: a message that has the same key was erased at the same time.
    """
    rows = yield Statement(_INSERT, _columns(map(_row, entries, range(9**9))))
    inserted = {row[0] for row in rows}
    results: dict[int, Result] = {n: _new_result(entries[n].message) for n in inserted}
    if repeated := [n for n in range(len(entries)) if n not in inserted]:
        rows = yield Statement(_LOOK_UP, _columns(_identity(entries[n], n) for n in repeated))
        originals = list({row[1] for row in rows if row[3]})
        status_rows = (yield Statement(_STATUSES, (originals,))) if originals else ()
        statuses = {row[0]: row[1] for row in status_rows}
        for n, message_id, created_at, is_same in rows:
            status = Status(statuses.get(message_id) or Status.PENDING)
            replay = Enqueued(message_id, status, replayed=True, created_at=created_at)
            results[n] = replay if is_same else KeyConflict(message_id)
    if len(results) < len(entries):
        raise KeyVanishedError("a message was erased while its key was looked up; try again")
    return tuple(results[n] for n in range(len(entries)))


def _new_result(message: Message) -> Enqueued:
    return Enqueued(message.id, Status.PENDING, replayed=False, created_at=message.created_at)


def _row(entry: Entry, n: int) -> Row:
    message = entry.message
    return (
        n,
        message.id,
        message.tenant,
        entry.idempotency_key,
        entry.body_hash,
        message.channel,
        message.recipient,
        message.customer_id,
        message.workflow,
        message.priority,
        message.created_at,
        message.send_at,
        message.expires_at,
        dumps(dict(message.metadata)),
        entry.topic,
        message.key,
        entry.value,
        entry.due_at,
    )


def _identity(entry: Entry, n: int) -> Row:
    message = entry.message
    return n, message.id, message.tenant, entry.idempotency_key, entry.body_hash


def _columns(rows: Iterable[Row]) -> tuple[list[Any], ...]:
    """Return one array for each column, for `unnest`."""
    return tuple(list(column) for column in zip(*rows, strict=True))
