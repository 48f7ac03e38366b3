"""Records a batch of status events in one transaction.

`audit.ingest` hands over the events it has read and how far it has read. `merge` stages them with
COPY, runs `merge.sql` and moves the offsets, so that a crash leaves all of it or none. An offset is
compared before it is moved, which detects a second reader of the same partition.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from comms.platform.database import DatabaseRefusedError, translate_errors
from comms.platform.kafka import TopicPartition
from schemas.events import StatusEvent

Connection = psycopg.Connection[TupleRow]

COLUMNS = (
    "message_id",
    "id",
    "tenant",
    "channel",
    "status",
    "reason",
    "attempt",
    "provider",
    "provider_message_id",
    "code",
    "detail",
    "response",
    "occurred_at",
    "recipient",
    "customer_id",
    "workflow",
    "priority",
    "created_at",
    "send_at",
    "expires_at",
    "metadata",
    "traceparent",
    "mode",
)

STATE_COLUMNS = (
    "message_id",
    "tenant",
    "channel",
    "status",
    "reason",
    "attempts",
    "provider",
    "provider_message_id",
    "code",
    "detail",
    "recipient",
    "customer_id",
    "workflow",
    "priority",
    "created_at",
    "updated_at",
    "send_at",
    "expires_at",
    "first_attempt_at",
    "sent_at",
    "finished_at",
    "metadata",
    "traceparent",
    "mode",
)

# The planner has no statistics of a batch that was staged a moment ago. It must not read whole
# partitions for it, nor compile a statement that takes milliseconds.
SESSION = """
CREATE TEMPORARY TABLE IF NOT EXISTS audit_staging (
    LIKE audit.history EXCLUDING CONSTRAINTS
) ON COMMIT DELETE ROWS;
ALTER TABLE audit_staging DROP COLUMN IF EXISTS recorded_at, DROP COLUMN IF EXISTS xid,
                          DROP COLUMN IF EXISTS seq;
SET jit = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_seqscan = off;
"""


class EventRefusedError(DatabaseRefusedError):
    """One of the events has a value that the database refuses."""


class OffsetConflictError(Exception):
    """Another reader has moved the offset of a partition."""


@dataclass(frozen=True, slots=True)
class OffsetMove:
    """How far a batch moves one partition.

    Args:
        stored_offset: as this reader last saw it; None if there was none.
        next_offset: where to read on.
        witness: a checksum of the record before `next_offset`.
        until: when that record was published; everything before it is recorded.
    """

    stored_offset: int | None
    next_offset: int
    witness: int
    until: datetime


def connect(url: str) -> Connection:
    """Open a connection for the ingest thread, ready to merge.

    Raises:
        DatabaseUnavailableError: the server does not answer.
        DatabaseRefusedError: the schema does not exist yet.
    """
    with translate_errors():
        connection = psycopg.connect(url, autocommit=True, application_name="comms-audit")
        try:
            connection.execute(SESSION)
        except psycopg.Error:
            connection.close()
            raise
        return connection


def merge(
    connection: Connection,
    events: Sequence[StatusEvent],
    moves: Mapping[TopicPartition, OffsetMove],
) -> int:
    """Record `events`, and how far the partitions in `moves` are read.

    Returns:
        The number of events that were not recorded before.

    Raises:
        OffsetConflictError: another reader has moved one of the partitions; nothing was recorded.
        DatabaseUnavailableError: nothing was recorded; the same call may succeed later.
        EventRefusedError: nothing was recorded; one of the events cannot be.
        DatabaseRefusedError: nothing was recorded, and nothing can be.
    """
    with translate_errors(), connection.transaction():
        for partition in sorted(moves):
            _move(connection, partition, moves[partition])
        try:
            return _record(connection, events) if events else 0
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise EventRefusedError(type(error).__name__) from error


def _move(connection: Connection, partition: TopicPartition, move: OffsetMove) -> None:
    """Move an offset. The row's lock also keeps two readers from folding one message at once."""
    if move.stored_offset is None:
        moved = connection.execute(
            "INSERT INTO audit.consumer_offset"
            " (topic, partition, next_offset, witness, caught_up_at)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (*partition, move.next_offset, move.witness, move.until),
        )
    else:
        moved = connection.execute(
            "UPDATE audit.consumer_offset SET next_offset = %s, witness = %s, caught_up_at = %s"
            " WHERE topic = %s AND partition = %s AND next_offset = %s",
            (move.next_offset, move.witness, move.until, *partition, move.stored_offset),
        )
    if moved.rowcount != 1:
        raise OffsetConflictError(f"{partition[0]} [{partition[1]}]")


def _record(connection: Connection, events: Sequence[StatusEvent]) -> int:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY audit_staging ({', '.join(COLUMNS)}) FROM STDIN") as copy,
    ):
        for event in events:
            copy.write_row(_row(event))
    row = connection.execute(_statement().encode()).fetchone()
    return int(row[0]) if row else 0


def _row(event: StatusEvent) -> tuple[Any, ...]:
    """Return an event's values in the order of COLUMNS."""
    return (
        event.message_id,
        event.id,
        _text(event.tenant),
        event.channel.value,
        event.status.value,
        event.reason.value,
        event.attempt,
        _text(event.provider),
        _text(event.provider_message_id),
        _text(event.code),
        _text(event.detail),
        _text(event.response),
        event.occurred_at,
        _text(event.recipient),
        _text(event.customer_id),
        _text(event.workflow),
        event.priority.value if event.priority else None,
        event.created_at,
        event.send_at,
        event.expires_at,
        _json(event.metadata),
        _text(event.traceparent),
        event.mode.value if event.mode else None,
    )


def _text(value: str | None) -> str | None:
    """Replace NUL, which PostgreSQL's text cannot hold and a provider's answer may have."""
    if value is None:
        return None
    return value.replace("\x00", "\ufffd")


def _json(metadata: Mapping[str, str]) -> str:
    return json.dumps({_text(name): _text(value) for name, value in metadata.items()})


@cache
def _statement() -> str:
    text = files("audit").joinpath("merge.sql").read_text(encoding="utf-8")
    return text.format(
        columns=", ".join(COLUMNS),
        state_columns=", ".join(STATE_COLUMNS),
        excluded_state_columns=", ".join(f"excluded.{name}" for name in STATE_COLUMNS),
    )
