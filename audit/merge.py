"""One transaction from a batch of status events to what the store knows about their messages.

The ingest service hands over the events it has read and how far it has read; `merge` stages them
with COPY, runs `merge.sql` and moves the offsets, so that a crash leaves all of it or none. Offsets
are checked before they are moved: a second reader of the same partition is found out, not raced.
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

from comms.platform.database import DatabaseRefusedError, translated
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

# The planner knows nothing of a batch that was staged a moment ago: it must not read whole
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
    """One of the events has a value that the store does not take."""


class OffsetConflictError(Exception):
    """Somebody else has moved a partition's offset: it is no longer ours to read."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a batch moves one partition.

    Args:
        known: the stored offset as this reader last saw it, None if there was none.
        next_offset: where to read on; witness: a checksum of the record before it.
        until: when that record was published: all before it is recorded.
    """

    known: int | None
    next_offset: int
    witness: int
    until: datetime


def connect(url: str) -> Connection:
    """A connection of the ingest thread's own, ready to merge.

    Raises:
        DatabaseUnavailableError: the server is away.
        DatabaseRefusedError: the schema is not there yet.
    """
    with translated():
        connection = psycopg.connect(url, autocommit=True, application_name="comms-audit")
        try:
            connection.execute(SESSION)
        except psycopg.Error:
            connection.close()
            raise
        return connection


def merge(
    connection: Connection, events: Sequence[StatusEvent], steps: Mapping[TopicPartition, Step]
) -> int:
    """Record `events` and that the partitions in `steps` are read so far; the number of new events.

    Raises:
        OffsetConflictError: another reader has moved one of the partitions; nothing was recorded.
        DatabaseUnavailableError: nothing was recorded; the same call may succeed later.
        EventRefusedError: nothing was recorded; one of the events cannot be.
        DatabaseRefusedError: nothing was recorded, and nothing can be.
    """
    with translated(), connection.transaction():
        for place in sorted(steps):
            _move(connection, place, steps[place])
        try:
            return _record(connection, events) if events else 0
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise EventRefusedError(type(error).__name__) from error


def _move(connection: Connection, place: TopicPartition, step: Step) -> None:
    """Also the lock that keeps two readers from folding one message's events at once."""
    if step.known is None:
        moved = connection.execute(
            "INSERT INTO audit.consumer_offset"
            " (topic, partition, next_offset, witness, caught_up_at)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (*place, step.next_offset, step.witness, step.until),
        )
    else:
        moved = connection.execute(
            "UPDATE audit.consumer_offset SET next_offset = %s, witness = %s, caught_up_at = %s"
            " WHERE topic = %s AND partition = %s AND next_offset = %s",
            (step.next_offset, step.witness, step.until, *place, step.known),
        )
    if moved.rowcount != 1:
        raise OffsetConflictError(f"{place[0]} [{place[1]}]")


def _record(connection: Connection, events: Sequence[StatusEvent]) -> int:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY audit_staging ({', '.join(COLUMNS)}) FROM STDIN") as copy,
    ):
        for event in events:
            copy.write_row(_row(event))
    found = connection.execute(_statement().encode()).fetchone()
    return int(found[0]) if found else 0


def _row(event: StatusEvent) -> tuple[Any, ...]:
    """In the order of COLUMNS. PostgreSQL's text has no NUL; a provider's answer may."""
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
    if value is None:
        return None
    return value.replace("\x00", "\ufffd")


def _json(words: Mapping[str, str]) -> str:
    return json.dumps({_text(name): _text(value) for name, value in words.items()})


@cache
def _statement() -> str:
    text = files("audit").joinpath("merge.sql").read_text(encoding="utf-8")
    return text.format(
        columns=", ".join(COLUMNS),
        state_columns=", ".join(STATE_COLUMNS),
        excluded_state_columns=", ".join(f"excluded.{name}" for name in STATE_COLUMNS),
    )
