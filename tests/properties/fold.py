"""The fold of ADR 4 in plain Python: the rows that the audit service should hold for given events.

`tests.properties.test_merge` compares them with the result of `audit/merge.sql`. Of two events the
one with the higher status counts, then the one with the later attempt, then the later one, then the
one with the greater id. Each other column has the value of the highest event that has one.
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

_TEXT_COLUMNS = (
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
    """Return the row of each message that has events."""
    of_message: dict[UUID, list[StatusEvent]] = defaultdict(list)
    for event in {event.id: event for event in events}.values():
        of_message[event.message_id].append(event)
    return {message_id: _row(of_one) for message_id, of_one in of_message.items()}


def rollup(rows: Mapping[UUID, Row]) -> Counter[tuple[Any, ...]]:
    """Count the messages of each hour by status and the other columns of the rollup."""
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

    def newest(name: str) -> Any:
        return next((value for e in ordered if (value := getattr(e, name)) is not None), None)

    def first(status: Status) -> datetime | None:
        return min((e.occurred_at for e in events if e.status is status), default=None)

    return {name: newest(name) for name in _TEXT_COLUMNS} | {
        "message_id": top.message_id,
        "tenant": top.tenant,
        "channel": top.channel,
        "status": top.status,
        "reason": top.reason,
        "attempts": max(event.attempt for event in events),
        "created_at": newest("created_at") or _created_at(events),
        "updated_at": max(event.occurred_at for event in events),
        "first_attempt_at": first(Status.SENDING),
        "sent_at": first(Status.SENT) or first(Status.DELIVERED),
        "finished_at": top.occurred_at if top.status in FINAL else None,
        "metadata": next((e.metadata for e in ordered if e.metadata), {}),
    }


def _created_at(events: list[StatusEvent]) -> datetime:
    """Return the time in the id, or that of the first event if the id has none."""
    message_id = events[0].message_id
    if message_id.version == 7:
        return time_of(message_id)
    return min(event.occurred_at for event in events)


def _bucket(row: Row) -> int:
    """Return the bucket of the time from due to sent: four buckets for each doubling."""
    if row["sent_at"] is None:
        return -1
    due = max(row["created_at"], row["send_at"] or row["created_at"])
    milliseconds = max(1.0, 1000 * (row["sent_at"] - due).total_seconds())
    return min(160, math.ceil(4 * math.log(milliseconds) / math.log(2)))
