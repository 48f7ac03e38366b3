"""Finds messages by filter and by id, for the API and the page.

Between a message's acceptance and its first recorded event only the producer knows it. Those
messages are shown too, as pending: what waits in the outbox or for its send_at, and what was
accepted since the audit service was last known to have recorded everything that was published.

The producer's views and the audit service's tables are read in statements of their own
(docs/adr/0013), and put together here. A page begins with the recorded messages. Then the
producer's candidates are read, and looked up among the recorded ones, in that order: a message
whose first event is recorded between any two of these reads is found by the look-up, with what is
recorded of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row

from audit.records import Event, Message, MessageHistory, MessagePage
from comms.platform.database import translate_errors
from schemas.ids import event_id
from schemas.vocabulary import Channel, Mode, Priority, Reason, Status

Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Filters:
    """The filters of a search; None matches everything. `since` and `until` bound `created_at`."""

    customer_id: str | None = None
    recipient: str | None = None
    channel: Channel | None = None
    status: Status | None = None
    reason: Reason | None = None
    provider: str | None = None
    workflow: str | None = None
    since: datetime | None = None
    until: datetime | None = None


_COLUMNS = """
    message_id AS id, tenant, channel, recipient AS "to", status, reason, provider,
    provider_message_id, attempts, customer_id, workflow, priority, created_at, updated_at, send_at,
    expires_at, sent_at, finished_at, metadata, mode
"""
_RECORDED = f"SELECT {_COLUMNS} FROM audit.state"  # noqa: S608 - a constant of this module

_ACCEPTED = """
SELECT id, tenant, channel, recipient AS "to", 'pending' AS status,
       CASE WHEN is_scheduled THEN 'scheduled' ELSE 'queued' END AS reason,
       NULL AS provider, NULL AS provider_message_id, 0 AS attempts, customer_id, workflow,
       priority, created_at, created_at AS updated_at, send_at, expires_at,
       NULL::timestamptz AS sent_at, NULL::timestamptz AS finished_at, metadata, NULL AS mode
"""
# Where accepted messages without an event can be. Each is read backwards by its primary key.
_QUEUED = f"{_ACCEPTED} FROM producer.queued_message"
_SCHEDULED = f"{_ACCEPTED} FROM producer.scheduled_message"
_JUST_ACCEPTED = f"{_ACCEPTED} FROM producer.accepted_message"

# The id of a message that was accepted when everything published before was recorded.
_RECORDED_UNTIL = """
SELECT comms.uuid_from(coalesce(min(caught_up_at), now() - interval '1 day')
                       - interval '15 seconds')
FROM audit.consumer_offset
"""

_EVENTS = """
SELECT id, status, reason, attempt, provider, provider_message_id, code, detail, response,
       occurred_at, recorded_at
FROM audit.history WHERE message_id = %(id)s AND tenant = %(tenant)s
ORDER BY occurred_at, audit.rank(status), attempt, seq
"""

# A message's id carries its time, which is close to its created_at.
_ID_BOUNDS = {
    "since": "{id} >= comms.uuid_from(%(since)s - interval '1 hour')",
    "until": "{id} < comms.uuid_from(%(until)s + interval '1 hour')",
}

MAX_CANDIDATES = 1000  # accepted messages that are looked up at once


async def find(
    connection: Connection,
    tenant: str,
    filters: Filters,
    *,
    limit: int,
    before: UUID | None = None,
) -> MessagePage:
    """Return a page of the tenant's messages, newest first.

    Args:
        before: the last id of the page before; None for the first page.

    Raises:
        DatabaseError: the database cannot answer now.
    """
    values = {"tenant": tenant, "limit": limit + 1, "before": before} | {
        f.name: getattr(filters, f.name) for f in fields(filters)
    }
    rows = await _rows(connection, _recorded_query(filters, before), values)
    if _may_be_unrecorded(filters):
        # What is older than a full page of recorded messages does not get onto the page.
        values["floor"] = rows[-1]["id"] if len(rows) > limit else UUID(int=0)
        values["recorded_until"] = await _recorded_until(connection)
        for source in _sources(filters):
            rows += await _accepted(connection, source, filters, values)
    newest = sorted({row["id"]: row for row in reversed(rows)}.values(), key=_id, reverse=True)
    items = tuple(_message(row) for row in newest[:limit])
    has_more = len(newest) > limit
    return MessagePage(items=items, next_cursor=str(items[-1].id) if has_more else None)


async def get(connection: Connection, tenant: str, message_id: UUID) -> MessageHistory | None:
    """Return one message of the tenant with its events, or None.

    Raises:
        DatabaseError: the database cannot answer now.
    """
    values = {"tenant": tenant, "id": message_id}
    recorded = f"{_RECORDED} WHERE message_id = %(id)s AND tenant = %(tenant)s"
    rows = await _rows(connection, recorded, values)
    if rows:
        event_rows = await _rows(connection, _EVENTS, values)
        return _with_events(_message(rows[0]), tuple(map(_event, event_rows)))
    accepted = f"{_JUST_ACCEPTED} WHERE id = %(id)s AND tenant = %(tenant)s"
    rows = await _rows(connection, accepted, values)
    if not rows:
        return None
    message = _message(rows[0])
    return _with_events(message, (_acceptance(message),))


async def _rows(
    connection: Connection, query: str, values: Mapping[str, object]
) -> list[dict[str, Any]]:
    with translate_errors():
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall()


async def _recorded_until(connection: Connection) -> UUID:
    """Return the id from which on an accepted message may have no recorded event.

    It is read before the accepted messages: an older answer only makes more of them candidates.
    """
    with translate_errors():
        row = await (await connection.execute(_RECORDED_UNTIL)).fetchone()
    return row[0] if row else UUID(int=0)


async def _accepted(
    connection: Connection, source: str, filters: Filters, values: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return messages of one of the producer's views, as recorded where an event is recorded.

    Candidates are read a page at a time, newest first, until as many of them match as are shown, or
    there are no more.
    """
    matching: list[dict[str, Any]] = []
    below, page_size = values["before"], values["limit"]
    while len(matching) < values["limit"]:
        query = _accepted_query(source, filters, below)
        page = await _rows(connection, query, values | {"before": below, "limit": page_size})
        recorded = await _recorded(connection, filters, [row["id"] for row in page], values)
        matching += [row for row in page if row["id"] not in recorded]
        matching += [row for row in recorded.values() if row.pop("is_match")]
        if len(page) < page_size:
            break
        below, page_size = page[-1]["id"], min(4 * page_size, MAX_CANDIDATES)
    return matching


async def _recorded(
    connection: Connection, filters: Filters, ids: list[UUID], values: Mapping[str, object]
) -> dict[UUID, dict[str, Any]]:
    """Return those of the messages that are recorded, each with whether it matches so."""
    if not ids:
        return {}
    conditions = " AND ".join(["tenant = %(tenant)s", *_state_conditions(filters, None)])
    query = (
        f"SELECT {_COLUMNS}, ({conditions}) AS is_match FROM audit.state"  # noqa: S608
        " WHERE message_id = ANY(%(ids)s)"
    )
    return {row["id"]: row for row in await _rows(connection, query, {**values, "ids": ids})}


def _recorded_query(filters: Filters, before: UUID | None) -> str:
    conditions = ["tenant = %(tenant)s", *_state_conditions(filters, before)]
    if filters.status in {Status.FAILED, Status.UNKNOWN}:
        conditions.append("trouble")  # has an index of its own
    where = " AND ".join(conditions)
    return f"{_RECORDED} WHERE {where} ORDER BY message_id DESC LIMIT %(limit)s"


def _state_conditions(filters: Filters, before: UUID | None) -> list[str]:
    names = ("status", "reason", "provider")
    of_status = [f"{name} = %({name})s" for name in names if getattr(filters, name) is not None]
    return [*_conditions(filters, "message_id", before), *of_status]


def _accepted_query(source: str, filters: Filters, below: UUID | None) -> str:
    conditions = ["tenant = %(tenant)s", "id > %(floor)s", *_conditions(filters, "id", below)]
    if source == _JUST_ACCEPTED:
        conditions.append("id > %(recorded_until)s")
        if filters.reason is Reason.QUEUED:
            conditions.append("NOT is_scheduled")
    where = " AND ".join(conditions)
    return f"{source} WHERE {where} ORDER BY id DESC LIMIT %(limit)s"


def _sources(filters: Filters) -> tuple[str, ...]:
    if filters.reason is Reason.SCHEDULED:
        return (_SCHEDULED,)
    if filters.reason is Reason.QUEUED:
        return _QUEUED, _JUST_ACCEPTED
    return _QUEUED, _SCHEDULED, _JUST_ACCEPTED


def _conditions(filters: Filters, key: str, before: UUID | None) -> list[str]:
    names = ("customer_id", "recipient", "channel", "workflow")
    conditions = [f"{name} = %({name})s" for name in names if getattr(filters, name) is not None]
    for name, comparison in (("since", ">="), ("until", "<")):
        if getattr(filters, name) is not None:
            conditions.append(f"created_at {comparison} %({name})s")
            conditions.append(_ID_BOUNDS[name].format(id=key))
    if before is not None:
        conditions.append(f"{key} < %(before)s")
    return conditions


def _may_be_unrecorded(filters: Filters) -> bool:
    """Whether a message that was accepted and has no recorded event can match."""
    return (
        filters.status in {None, Status.PENDING}
        and filters.reason in {None, Reason.QUEUED, Reason.SCHEDULED}
        and filters.provider is None
    )


def _id(row: Mapping[str, Any]) -> UUID:
    message_id: UUID = row["id"]
    return message_id


def _message(row: dict[str, Any]) -> Message:
    priority = row["priority"]
    typed = {
        "channel": Channel(row["channel"]),
        "status": Status(row["status"]),
        "reason": Reason(row["reason"]),
        "priority": Priority(priority) if priority else None,
        "mode": Mode(row["mode"] or Mode.LIVE),
    }
    return Message(**row | typed)


def _event(row: dict[str, Any]) -> Event:
    return Event(**row | {"status": Status(row["status"]), "reason": Reason(row["reason"])})


def _acceptance(message: Message) -> Event:
    """Return the event of a message that has no recorded one yet: it was accepted."""
    return Event(
        id=event_id(message.id, message.status, message.reason, 0),
        status=message.status,
        reason=message.reason,
        attempt=0,
        provider=None,
        provider_message_id=None,
        code=None,
        detail=None,
        response=None,
        occurred_at=message.created_at,
        recorded_at=message.created_at,
    )


def _with_events(message: Message, events: tuple[Event, ...]) -> MessageHistory:
    return MessageHistory(**asdict(message), events=events)
