"""The fold of ADR 4 in plain Python: what the audit store should hold of a set of events.

`tests.properties.test_merge` compares it with what `audit/merge.sql` made of the same events. Of
two facts the one of the higher status counts, then of the later attempt, then the later one, then
the one with the greater id; of each other column, the word of the highest event that has one.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.events import StatusEvent
from schemas.ids import time_of
from schemas.lifecycle import FINAL, RANK
from schemas.vocabulary import Status

Row = dict[str, Any]

_WORDS = (
    "provider",
    "provider_message_id",
    "code",
    "detail",
    "recipient",
    "customer_id",
    "workflow",
    "priority",
    "send_at",
    "expires_at",
    "traceparent",
    "mode",
)


def state(events: Iterable[StatusEvent]) -> dict[UUID, Row]:
    """The row of each message of which there are events."""
    of_message: dict[UUID, list[StatusEvent]] = defaultdict(list)
    for event in {event.id: event for event in events}.values():
        of_message[event.message_id].append(event)
    return {message_id: _row(found) for message_id, found in of_message.items()}


def rollup(rows: Mapping[UUID, Row]) -> Counter[tuple[Any, ...]]:
    """How many messages of an hour stand where."""
    return Counter(
        (
            row["tenant"],
            row["created_at"].replace(minute=0, second=0, microsecond=0),
            row["channel"],
            row["status"],
            row["reason"],
            *(row[name] or "" for name in ("provider", "priority", "workflow")),
            _bucket(row),
        )
        for row in rows.values()
    )


def _row(events: list[StatusEvent]) -> Row:
    def order(event: StatusEvent) -> tuple[int, int, datetime, UUID]:
        return RANK[event.status], event.attempt, event.occurred_at, event.id

    ordered = sorted(events, key=order, reverse=True)
    top = ordered[0]

    def word(name: str) -> Any:
        return next((found for e in ordered if (found := getattr(e, name)) is not None), None)

    def first(status: Status) -> datetime | None:
        return min((e.occurred_at for e in events if e.status is status), default=None)

    return {name: word(name) for name in _WORDS} | {
        "message_id": top.message_id,
        "tenant": top.tenant,
        "channel": top.channel,
        "status": top.status,
        "reason": top.reason,
        "attempts": max(event.attempt for event in events),
        "created_at": word("created_at") or _born(events),
        "updated_at": max(event.occurred_at for event in events),
        "first_attempt_at": first(Status.SENDING),
        "sent_at": first(Status.SENT) or first(Status.DELIVERED),
        "finished_at": top.occurred_at if top.status in FINAL else None,
        "metadata": next((e.metadata for e in ordered if e.metadata), {}),
    }


def _born(events: list[StatusEvent]) -> datetime:
    """The time in the id, and where there is none that of the first event."""
    message_id = events[0].message_id
    if message_id.version == 7:
        return time_of(message_id)
    return min(event.occurred_at for event in events)


def _bucket(row: Row) -> int:
    """Of the time from when a message could go to when it was sent: four buckets a doubling."""
    if row["sent_at"] is None:
        return -1
    could_go = max(row["created_at"], row["send_at"] or row["created_at"])
    milliseconds = max(1.0, 1000 * (row["sent_at"] - could_go).total_seconds())
    return min(160, math.ceil(4 * math.log(milliseconds) / math.log(2)))
