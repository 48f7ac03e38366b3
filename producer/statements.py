"""The statements that accept messages, without a connection to run them on.

`accept` is a generator: it yields a statement, is sent the rows that came back, and returns what
became of each message. `producer.outbox` drives it over whatever connection the caller has, so the
library's four flavours cannot drift apart.
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
    """SQL in psycopg's notation, and its parameters."""

    sql: str
    parameters: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"Statement({len(self.parameters)} parameters)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message as it is written: encoded, hashed, with its place in the queue.

    Args:
        due_at: when it waits for its send_at; None when it goes to the queue at once.
    """

    message: Message
    idempotency_key: str | None
    body_hash: bytes
    topic: str
    value: bytes
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is in the outbox, as far as the transaction commits.

    Args:
        id: the message's id; that of the first one when `replayed`.
        status: where it stands now: `pending`, unless it is a replay.
        replayed: the same key and the same content were accepted before; nothing was added.
        created_at: when the message was first accepted.
    """

    id: UUID
    status: Status
    replayed: bool
    created_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Conflict:
    """The idempotency key was used for other content, by message `id`; nothing was added."""

    id: UUID


Result = Accepted | Conflict
Plan = Generator[Statement, Sequence[Row], tuple[Result, ...]]


class KeyVanishedError(Exception):
    """A message disappeared between two statements: run the transaction again."""


# One statement, so that even a connection in autocommit writes all of it or nothing. Keys are
# inserted in one order by everybody, so that two callers with common keys cannot deadlock; the
# queue is filled in the caller's order, which is the order of delivery for one recipient.
# `%b`: arrays of text are escaped item by item, binary ones are a twentieth of that work.
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

# In a statement of its own, for its fresh snapshot: it sees what a concurrent transaction, for
# whose end the insert waited, has committed.
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

# Only where a key is repeated. The status may be newer than the look-up, never older; a message
# that the ledger does not know, or no longer knows, is answered as pending.
_STATUSES = "SELECT message_id, status FROM consumers.delivery_status(%b::uuid[])"


def accept(entries: Sequence[Entry]) -> Plan:
    """Write `entries`; returns a result for each, in order.

    Raises:
        KeyVanishedError: a conflicting message was erased at the same moment.
    """
    fresh = {
        row[0] for row in (yield Statement(_INSERT, _columns(map(_row, entries, range(9**9)))))
    }
    results: dict[int, Result] = {n: _newly(entries[n].message) for n in fresh}
    if repeated := [n for n in range(len(entries)) if n not in fresh]:
        rows = yield Statement(_LOOK_UP, _columns(_identity(entries[n], n) for n in repeated))
        originals = list({row[1] for row in rows if row[3]})
        found = (yield Statement(_STATUSES, (originals,))) if originals else ()
        statuses = {row[0]: row[1] for row in found}
        for n, message_id, created_at, is_same in rows:
            status = Status(statuses.get(message_id) or Status.PENDING)
            replay = Accepted(message_id, status, replayed=True, created_at=created_at)
            results[n] = replay if is_same else Conflict(message_id)
    if len(results) < len(entries):
        raise KeyVanishedError("a message was erased while its key was looked up; try again")
    return tuple(results[n] for n in range(len(entries)))


def _newly(message: Message) -> Accepted:
    return Accepted(message.id, Status.PENDING, replayed=False, created_at=message.created_at)


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
    """Arrays for unnest: one a column, whatever the number of rows."""
    return tuple(list(column) for column in zip(*rows, strict=True))
