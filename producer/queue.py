"""The queue as the relay sees it: read beyond a cursor, move the cursor on.

Every function is one statement on the relay's own connection, whose session holds the advisory
locks of its shards (`producer.shards`): a lost connection ends the ownership together with the
ability to move a cursor.

The cursor runs over (xid, seq). A row becomes visible when its transaction commits, which is not
the order in which xids and seqs were given out; so the cursor stays below `pg_snapshot_xmin`, under
which every transaction has ended, and cannot step over a row that appears later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from producer.shards import BULK, LOCKS, NORMAL, SCHEDULE_LOCK, lane_of
from schemas.messages import MessageHeader
from schemas.topics import STATUS, of_channel
from schemas.vocabulary import Channel, Priority

BATCH_ROWS = 500  # of a shard
BULK_ROWS = 100  # the same in the bulk lane: an urgent message waits until a batch is published
MOST_COMPANY = 2000  # messages of the same recipients that are looked at to keep their order
BATCH_BYTES = 8 * 1024 * 1024  # of a shard, but always one row


@dataclass(frozen=True, slots=True)
class Position:
    """How far a shard was read."""

    shard: int
    xid: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the queue, with what its message's status events carry.

    The message's columns are None for a row that is itself a status event. `is_read` says of what
    keeps others company that it stands in its topic already.
    """

    message_id: UUID
    topic: str
    key: str
    value: bytes
    shard: int
    xid: str
    seq: int
    tenant: str | None
    channel: str | None
    recipient: str | None
    customer_id: str | None
    workflow: str | None
    priority: str | None
    created_at: datetime | None
    send_at: datetime | None
    expires_at: datetime | None
    metadata: dict[str, str] | None
    is_read: bool = False

    def __repr__(self) -> str:
        return f"Row({self.message_id} {self.topic})"

    @property
    def is_event(self) -> bool:
        """Whether it is a status event: published, and then done with."""
        return self.topic == STATUS

    @property
    def lane(self) -> Priority:
        """The priority whose topic it goes to."""
        return lane_of(self.shard)

    @property
    def is_moved(self) -> bool:
        """Whether it goes to the topic of another lane than its own."""
        return not self.is_event and self.topic != of_channel(Channel(str(self.channel)), self.lane)

    @property
    def position(self) -> Position:
        return Position(self.shard, self.xid, self.seq)


_COLUMNS = """
    o.message_id, o.topic, o.key, o.value, o.shard, o.xid::text AS xid, o.seq, m.tenant, m.channel,
    m.recipient, m.customer_id, m.workflow, m.priority, m.created_at, m.send_at, m.expires_at,
    m.metadata
"""

# `size` is what the rows up to this one weigh: the batch ends at BATCH_BYTES, but has a row.
_READ = f"""
SELECT {_COLUMNS}
FROM producer.relay_position p
CROSS JOIN LATERAL (
    SELECT near.*, sum(octet_length(value)) OVER earlier AS size
    FROM (
        SELECT * FROM producer.outbox o
        WHERE o.shard = p.shard AND (o.xid, o.seq) > (p.xid, p.seq)
          AND o.xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY o.xid, o.seq
        LIMIT CASE WHEN p.shard >= {BULK.start} THEN {BULK_ROWS} ELSE {BATCH_ROWS} END
    ) near
    WINDOW earlier AS (ORDER BY xid, seq)
) o
LEFT JOIN producer.message m ON m.id = o.message_id AND o.topic <> '{STATUS}'
WHERE p.shard = ANY(%s) AND o.size - octet_length(o.value) < {BATCH_BYTES}
ORDER BY o.shard, o.xid, o.seq
"""  # noqa: S608 - constants of this module

_OVERDUE = f"""
SELECT {_COLUMNS}
FROM (
    SELECT due.*, sum(octet_length(value)) OVER (ORDER BY xid, seq) AS size
    FROM (
        SELECT o.* FROM producer.outbox o
        JOIN unnest(%s::smallint[], %s::text[], %s::bigint[]) AS p (shard, xid, seq)
          ON o.shard = p.shard AND (o.xid, o.seq) <= (p.xid::xid8, p.seq)
        WHERE o.republish_at <= now()
        ORDER BY o.xid, o.seq LIMIT {BATCH_ROWS}
    ) due
) o
LEFT JOIN producer.message m ON m.id = o.message_id AND o.topic <> '{STATUS}'
WHERE o.size - octet_length(o.value) < {BATCH_BYTES}
ORDER BY o.xid, o.seq
"""  # noqa: S608 - constants of this module

# What waits for the same recipients, in any lane. Nothing is looked for while the other lanes are
# empty, which one step into an index tells.
_COMPANY = f"""
SELECT {_COLUMNS}, (o.xid, o.seq) <= (p.xid, p.seq) AS is_read
FROM producer.outbox o
JOIN producer.relay_position p ON p.shard = o.shard
LEFT JOIN producer.message m ON m.id = o.message_id
WHERE o.key = ANY(%(keys)s) AND o.topic <> '{STATUS}' AND o.seq < %(before)s
  AND (EXISTS (SELECT FROM producer.outbox WHERE shard < %(first)s)
       OR EXISTS (SELECT FROM producer.outbox WHERE shard > %(last)s))
ORDER BY o.seq LIMIT {MOST_COMPANY}
"""  # noqa: S608 - constants of this module

_ADVANCE = """
UPDATE producer.relay_position p SET xid = e.xid::xid8, seq = e.seq
FROM unnest(%s::smallint[], %s::text[], %s::bigint[]) AS e (shard, xid, seq)
WHERE p.shard = e.shard
"""

_FOLLOW_LOG = """
UPDATE producer.relay_position p SET log = %(log)s,
    xid = CASE WHEN before.log IS NULL THEN p.xid ELSE '0' END,
    seq = CASE WHEN before.log IS NULL THEN p.seq ELSE 0 END
FROM producer.relay_position before
WHERE p.shard = before.shard AND p.shard = ANY(%(shards)s) AND p.log IS DISTINCT FROM %(log)s
RETURNING p.shard, before.log IS NOT NULL
"""

_MOVE_DUE = f"""
WITH due AS (
    DELETE FROM producer.scheduled WHERE message_id IN (
        SELECT message_id FROM producer.scheduled WHERE due_at <= now()
        ORDER BY due_at, message_id LIMIT {BATCH_ROWS} FOR UPDATE SKIP LOCKED
    ) RETURNING *
)
INSERT INTO producer.outbox (message_id, topic, key, value)
SELECT message_id, topic, key, value FROM due ORDER BY due_at, message_id
"""  # noqa: S608 - constants of this module


def positions(connection: Connection[Any], shards: frozenset[int]) -> list[Position]:
    """How far `shards` were read."""
    rows = connection.execute(
        "SELECT shard, xid::text, seq FROM producer.relay_position WHERE shard = ANY(%s)",
        (sorted(shards),),
    )
    return [Position(*row) for row in rows]


def read(connection: Connection[Any], shards: frozenset[int]) -> list[Row]:
    """The next rows of `shards`, a bounded number of each, in order within a shard."""
    with connection.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(_READ, (sorted(shards),)).fetchall()


def overdue(connection: Connection[Any], upto: Sequence[Position]) -> list[Row]:
    """Rows published a while ago that no consumer has claimed: their topic may be lost."""
    with connection.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(_OVERDUE, _columns(upto)).fetchall()


def pending_for_recipients(connection: Connection[Any], rows: Sequence[Row]) -> list[Row]:
    """What waits unclaimed for the recipients of `rows`, which are of one lane: those and what was
    accepted before, of all lanes; nothing where the other lanes are empty."""
    values = {
        "keys": list({row.key for row in rows if not row.is_event}),
        "before": max(row.seq for row in rows) + 1,
        "first": min(row.shard for row in rows) // len(NORMAL) * len(NORMAL),
        "last": max(row.shard for row in rows) // len(NORMAL) * len(NORMAL) + len(NORMAL) - 1,
    }
    with connection.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(_COMPANY, values).fetchall()


def advance(connection: Connection[Any], rows: Sequence[Row], moved: Sequence[Row] = ()) -> None:
    """All of `rows` stand in their topics: move the cursors past them, drop the status events.

    Args:
        moved: what was published into another lane than it was of, with that lane's topic.
    """
    last = {row.shard: row.position for row in rows}
    with connection.transaction():
        connection.execute(_ADVANCE, _columns(last.values()))
        _move(connection, moved)
        _drop_events(connection, rows)


def follow_log(connection: Connection[Any], shards: frozenset[int], log: str) -> frozenset[int]:
    """`shards` are published to `log` from now on. Those that were published to another one are
    read from their beginning again, since what nobody has claimed is still there: returns them."""
    rows = connection.execute(_FOLLOW_LOG, {"shards": sorted(shards), "log": log})
    return frozenset(shard for shard, rewound in rows if rewound)


def _move(connection: Connection[Any], moved: Sequence[Row]) -> None:
    if moved:
        connection.execute(
            "UPDATE producer.outbox o SET topic = m.topic"
            " FROM unnest(%s::uuid[], %s::text[]) AS m (message_id, topic)"
            " WHERE o.message_id = m.message_id AND o.topic <> %s",
            ([row.message_id for row in moved], [row.topic for row in moved], STATUS),
        )


def postpone(connection: Connection[Any], rows: Sequence[Row], moved: Sequence[Row] = ()) -> None:
    """`rows` were published again: look at them later, and later every time, up to an hour.

    Args:
        moved: as for `advance`.
    """
    with connection.transaction():
        _move(connection, moved)
        connection.execute(
            "UPDATE producer.outbox SET republished = least(republished + 1, 100),"
            " republish_at = now()"
            " + interval '30 seconds' * least(power(2, least(republished + 1, 10)), 120)"
            " WHERE message_id = ANY(%s) AND topic <> %s",
            ([row.message_id for row in rows], STATUS),
        )
        _drop_events(connection, rows)


def _drop_events(connection: Connection[Any], rows: Sequence[Row]) -> None:
    if events := [row.message_id for row in rows if row.is_event]:
        connection.execute(
            "DELETE FROM producer.outbox WHERE message_id = ANY(%s) AND topic = %s",
            (events, STATUS),
        )


def move_due(connection: Connection[Any]) -> int:
    """Move what is due from the schedule to the queue, unless another relay is doing so.

    One at a time, because two would give a recipient's messages their places in any order.
    """
    with connection.transaction():
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM producer.scheduled WHERE due_at <= now())"
            " AND pg_try_advisory_xact_lock(%s, %s)",
            (LOCKS, SCHEDULE_LOCK),
        ).fetchone()
        return connection.execute(_MOVE_DUE).rowcount if row and row[0] else 0


def claimed(connection: Connection[Any], message_ids: Iterable[UUID]) -> int:
    """Consumers have these messages in their ledger: the queue may forget them."""
    return connection.execute(
        "DELETE FROM producer.outbox WHERE message_id = ANY(%s) AND topic <> %s",
        (sorted(set(message_ids)), STATUS),
    ).rowcount


def backlog(connection: Connection[Any]) -> tuple[int, float]:
    """Messages in the queue, and the age of the oldest in seconds."""
    row = connection.execute(
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(enqueued_at)), 0)::float8"
        " FROM producer.outbox WHERE topic <> %s",
        (STATUS,),
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0.0)


def header_of(row: Row) -> MessageHeader | None:
    """Return the header of the row's message, for its status events.

    None for a status event, and for a message that was erased in the meantime.
    """
    if (
        row.tenant is None
        or row.channel is None
        or row.recipient is None
        or row.priority is None
        or row.created_at is None
    ):
        return None
    return MessageHeader(
        id=row.message_id,
        tenant=row.tenant,
        channel=Channel(row.channel),
        recipient=row.recipient,
        customer_id=row.customer_id,
        workflow=row.workflow,
        priority=Priority(row.priority),
        created_at=row.created_at,
        send_at=row.send_at,
        expires_at=row.expires_at,
        metadata=row.metadata or {},
    )


def _columns(found: Iterable[Position]) -> tuple[list[int], list[str], list[int]]:
    places = list(found)
    return [p.shard for p in places], [p.xid for p in places], [p.seq for p in places]
