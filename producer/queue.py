"""The queries of the relay on the queue: read the rows beyond a position, and move the position.

`producer.relay_session` calls these functions. Each runs one statement, or a few in one
transaction, on the relay's own connection. The session of this connection holds the advisory locks
of the relay's shards (`producer.shards`). If the connection is lost, the relay loses both the
shards and the ability to move their positions.

A position is a pair (xid, seq). A row becomes visible when its transaction commits, and
transactions do not commit in the order of their xids or of the seqs of their rows. The relay
therefore reads only rows below `pg_snapshot_xmin`: all transactions below it have ended, so that no
row can appear later at a position that was passed.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from producer.rows import Position, QueueRow
from producer.shards import BULK, LOCKS, NORMAL, SCHEDULE_LOCK
from schemas.topics import STATUS

BATCH_ROWS = 500  # of a shard
BULK_ROWS = 100  # of a shard of the bulk lane: an urgent message waits until a batch is published
PENDING_LIMIT = 2000  # unclaimed messages of a batch's recipients that are read to keep their order
BATCH_BYTES = 8 * 1024 * 1024  # of a shard, but always at least one row


_COLUMNS = """
    o.message_id, o.topic, o.key, o.value, o.shard, o.xid::text AS xid, o.seq, m.tenant, m.channel,
    m.recipient, m.customer_id, m.workflow, m.priority, m.created_at, m.send_at, m.expires_at,
    m.metadata
"""

# `size` is the total size of the rows up to this one. A batch ends at BATCH_BYTES, but has at least
# one row.
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

_READ_UNCLAIMED = f"""
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

# Unclaimed messages of the same recipients, in any lane. The query returns nothing while the other
# lanes are empty; one index lookup decides that.
_READ_PENDING = f"""
SELECT {_COLUMNS}, (o.xid, o.seq) <= (p.xid, p.seq) AS is_published
FROM producer.outbox o
JOIN producer.relay_position p ON p.shard = o.shard
LEFT JOIN producer.message m ON m.id = o.message_id
WHERE o.key = ANY(%(keys)s) AND o.topic <> '{STATUS}' AND o.seq < %(before)s
  AND (EXISTS (SELECT FROM producer.outbox WHERE shard < %(first)s)
       OR EXISTS (SELECT FROM producer.outbox WHERE shard > %(last)s))
ORDER BY o.seq LIMIT {PENDING_LIMIT}
"""  # noqa: S608 - constants of this module

_ADVANCE = """
UPDATE producer.relay_position p SET xid = e.xid::xid8, seq = e.seq
FROM unnest(%s::smallint[], %s::text[], %s::bigint[]) AS e (shard, xid, seq)
WHERE p.shard = e.shard
"""

_SET_LOG_ID = """
UPDATE producer.relay_position p SET log = %(log_id)s,
    xid = CASE WHEN before.log IS NULL THEN p.xid ELSE '0' END,
    seq = CASE WHEN before.log IS NULL THEN p.seq ELSE 0 END
FROM producer.relay_position before
WHERE p.shard = before.shard AND p.shard = ANY(%(shards)s) AND p.log IS DISTINCT FROM %(log_id)s
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


def read_positions(connection: Connection[Any], shards: frozenset[int]) -> list[Position]:
    """Return the position of each of `shards`."""
    rows = connection.execute(
        "SELECT shard, xid::text, seq FROM producer.relay_position WHERE shard = ANY(%s)",
        (sorted(shards),),
    )
    return [Position(*row) for row in rows]


def read(connection: Connection[Any], shards: frozenset[int]) -> list[QueueRow]:
    """Return the next rows of `shards`: a bounded number of each shard, in order within it."""
    with connection.cursor(row_factory=class_row(QueueRow)) as cursor:
        return cursor.execute(_READ, (sorted(shards),)).fetchall()


def read_unclaimed(connection: Connection[Any], upto: Sequence[Position]) -> list[QueueRow]:
    """Return rows that were published a while ago and that no consumer has claimed.

    The topic may have lost them.

    Args:
        upto: the positions of the shards; only rows up to them are returned.
    """
    with connection.cursor(row_factory=class_row(QueueRow)) as cursor:
        return cursor.execute(_READ_UNCLAIMED, _columns(upto)).fetchall()


def read_pending_for_recipients(
    connection: Connection[Any], rows: Sequence[QueueRow]
) -> list[QueueRow]:
    """Return the unclaimed messages of the recipients of `rows`, in the order of acceptance.

    The result has the messages of `rows` and earlier ones, of all lanes. It is empty while the
    other lanes are empty.

    Args:
        rows: rows of one lane.
    """
    values = {
        "keys": list({row.key for row in rows if not row.is_event}),
        "before": max(row.seq for row in rows) + 1,
        "first": min(row.shard for row in rows) // len(NORMAL) * len(NORMAL),
        "last": max(row.shard for row in rows) // len(NORMAL) * len(NORMAL) + len(NORMAL) - 1,
    }
    with connection.cursor(row_factory=class_row(QueueRow)) as cursor:
        return cursor.execute(_READ_PENDING, values).fetchall()


def advance(
    connection: Connection[Any], rows: Sequence[QueueRow], moved: Sequence[QueueRow] = ()
) -> None:
    """Move the positions past `rows`, which were published, and delete the status events.

    Args:
        moved: the rows that were published to the topic of another lane, with this topic.
    """
    last = {row.shard: row.position for row in rows}
    with connection.transaction():
        connection.execute(_ADVANCE, _columns(last.values()))
        _set_topics(connection, moved)
        _delete_events(connection, rows)


def set_log_id(connection: Connection[Any], shards: frozenset[int], log_id: str) -> frozenset[int]:
    """Record that `shards` are published to the topics with the identity `log_id` from now on.

    A shard that was published to topics of another identity is read from its beginning again. Its
    unclaimed rows are still in the queue.

    Returns:
        The shards that are read from their beginning again.
    """
    rows = connection.execute(_SET_LOG_ID, {"shards": sorted(shards), "log_id": log_id})
    return frozenset(shard for shard, is_rewound in rows if is_rewound)


def postpone(
    connection: Connection[Any], rows: Sequence[QueueRow], moved: Sequence[QueueRow] = ()
) -> None:
    """Record that `rows` were published again. The next check waits longer each time, up to 1 h.

    Args:
        moved: as for `advance`.
    """
    with connection.transaction():
        _set_topics(connection, moved)
        connection.execute(
            "UPDATE producer.outbox SET republished = least(republished + 1, 100),"
            " republish_at = now()"
            " + interval '30 seconds' * least(power(2, least(republished + 1, 10)), 120)"
            " WHERE message_id = ANY(%s) AND topic <> %s",
            ([row.message_id for row in rows], STATUS),
        )
        _delete_events(connection, rows)


def move_due(connection: Connection[Any]) -> int:
    """Move the messages that are due from the schedule to the queue; return their number.

    One relay at a time does this: two would mix the order of one recipient's messages. If another
    relay is doing it, nothing is moved.
    """
    with connection.transaction():
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM producer.scheduled WHERE due_at <= now())"
            " AND pg_try_advisory_xact_lock(%s, %s)",
            (LOCKS, SCHEDULE_LOCK),
        ).fetchone()
        return connection.execute(_MOVE_DUE).rowcount if row and row[0] else 0


def delete_claimed(connection: Connection[Any], message_ids: Iterable[UUID]) -> int:
    """Delete messages that are in the consumers' ledger; return the number of deleted rows."""
    return connection.execute(
        "DELETE FROM producer.outbox WHERE message_id = ANY(%s) AND topic <> %s",
        (sorted(set(message_ids)), STATUS),
    ).rowcount


def measure_backlog(connection: Connection[Any]) -> tuple[int, float]:
    """Return the number of messages in the queue and the age of the oldest one in seconds."""
    row = connection.execute(
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(enqueued_at)), 0)::float8"
        " FROM producer.outbox WHERE topic <> %s",
        (STATUS,),
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0.0)


def _set_topics(connection: Connection[Any], moved: Sequence[QueueRow]) -> None:
    if moved:
        connection.execute(
            "UPDATE producer.outbox o SET topic = m.topic"
            " FROM unnest(%s::uuid[], %s::text[]) AS m (message_id, topic)"
            " WHERE o.message_id = m.message_id AND o.topic <> %s",
            ([row.message_id for row in moved], [row.topic for row in moved], STATUS),
        )


def _delete_events(connection: Connection[Any], rows: Sequence[QueueRow]) -> None:
    if events := [row.message_id for row in rows if row.is_event]:
        connection.execute(
            "DELETE FROM producer.outbox WHERE message_id = ANY(%s) AND topic = %s",
            (events, STATUS),
        )


def _columns(positions: Iterable[Position]) -> tuple[list[int], list[str], list[int]]:
    listed = list(positions)
    return [p.shard for p in listed], [p.xid for p in listed], [p.seq for p in listed]
