"""Messages by filter and by id: what events say of them, or, before any event, what was accepted.

Between a message's acceptance and its first recorded event it stands in the producer's tables
alone. Those messages are shown too, as pending: what waits in the outbox or for its time, and what
was accepted since the audit service was last known to have recorded everything published.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row

from audit.records import Event, Message, MessageHistory, MessagePage
from comms.platform.database import translated
from schemas.ids import event_id
from schemas.vocabulary import Channel, Mode, Priority, Reason, Status

Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Filters:
    """What a search asks for; None asks nothing. `since` and `until` are about `created_at`."""

    customer_id: str | None = None
    recipient: str | None = None
    channel: Channel | None = None
    status: Status | None = None
    reason: Reason | None = None
    provider: str | None = None
    workflow: str | None = None
    since: datetime | None = None
    until: datetime | None = None


_STATE = """
SELECT message_id AS id, tenant, channel, recipient AS "to", status, reason, provider,
       provider_message_id, attempts, customer_id, workflow, priority, created_at, updated_at,
       send_at, expires_at, sent_at, finished_at, metadata, mode
FROM audit.state
"""

_ACCEPTED = """
SELECT m.id, m.tenant, m.channel, m.recipient AS "to", 'pending' AS status,
       CASE WHEN EXISTS (SELECT FROM producer.scheduled AS s WHERE s.message_id = m.id)
            THEN 'scheduled' ELSE 'queued' END AS reason,
       NULL AS provider, NULL AS provider_message_id, 0 AS attempts, m.customer_id, m.workflow,
       m.priority, m.created_at, m.created_at AS updated_at, m.send_at, m.expires_at,
       NULL::timestamptz AS sent_at, NULL::timestamptz AS finished_at, m.metadata,
       NULL AS mode
FROM producer.message AS m
"""

# Where accepted messages without an event can be: each is read backwards by its primary key.
_WAITING = (
    "JOIN producer.outbox AS w ON w.message_id = m.id",
    "JOIN producer.scheduled AS w ON w.message_id = m.id",
    """JOIN (SELECT comms.uuid_from(coalesce(min(caught_up_at), now() - interval '1 day')
                                     - interval '15 seconds')
             FROM audit.consumer_offset) AS w (id) ON m.id > w.id""",
)

_EVENTS = """
SELECT id, status, reason, attempt, provider, provider_message_id, code, detail, response,
       occurred_at, recorded_at
FROM audit.history WHERE message_id = %s AND tenant = %s
ORDER BY occurred_at, audit.rank(status), attempt, seq
"""

# A message's id carries its time; created_at is the producer's word for the same, and close to it.
_ID_BOUNDS = {
    "since": "{id} >= comms.uuid_from(%(since)s - interval '1 hour')",
    "until": "{id} < comms.uuid_from(%(until)s + interval '1 hour')",
}


async def find(
    connection: Connection,
    tenant: str,
    filters: Filters,
    *,
    limit: int,
    before: UUID | None = None,
) -> MessagePage:
    """A page of the tenant's messages, newest first; `before` continues a former one.

    Raises:
        DatabaseError: it cannot be told now.
    """
    values = {"tenant": tenant, "limit": limit + 1, "before": before} | {
        f.name: getattr(filters, f.name) for f in fields(filters)
    }
    found = await _rows(connection, _state_query(filters, before), values)
    if _may_be_unheard_of(filters):
        for query in _accepted_queries(filters, before):
            found += await _rows(connection, query, values)
    newest = sorted({row["id"]: row for row in reversed(found)}.values(), key=_id, reverse=True)
    items = tuple(_message(row) for row in newest[:limit])
    more = len(newest) > limit
    return MessagePage(items=items, next_cursor=str(items[-1].id) if more else None)


async def get(connection: Connection, tenant: str, message_id: UUID) -> MessageHistory | None:
    """One message of the tenant and its events, or None.

    Raises:
        DatabaseError: it cannot be told now.
    """
    values = {"tenant": tenant, "id": message_id}
    found = await _rows(
        connection, f"{_STATE} WHERE message_id = %(id)s AND tenant = %(tenant)s", values
    )
    if found:
        async with connection.cursor(row_factory=dict_row) as cursor:
            with translated():
                await cursor.execute(_EVENTS, (message_id, tenant))
                events = tuple(_event(row) for row in await cursor.fetchall())
        return _with_events(_message(found[0]), events)
    found = await _rows(
        connection, f"{_ACCEPTED} WHERE m.id = %(id)s AND m.tenant = %(tenant)s", values
    )
    if not found:
        return None
    message = _message(found[0])
    return _with_events(message, (_acceptance(message),))


async def _rows(
    connection: Connection, query: str, values: Mapping[str, object]
) -> list[dict[str, Any]]:
    with translated():
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall()


def _state_query(filters: Filters, before: UUID | None) -> str:
    conditions = ["tenant = %(tenant)s", *_conditions(filters, "", "message_id", before)]
    words = ("status", "reason", "provider")
    conditions += [f"{name} = %({name})s" for name in words if getattr(filters, name) is not None]
    if filters.status in {Status.FAILED, Status.UNKNOWN}:
        conditions.append("trouble")  # has an index of its own
    where = " AND ".join(conditions)
    return f"{_STATE} WHERE {where} ORDER BY message_id DESC LIMIT %(limit)s"


def _accepted_queries(filters: Filters, before: UUID | None) -> list[str]:
    conditions = [
        "m.tenant = %(tenant)s",
        "NOT EXISTS (SELECT FROM audit.state AS a WHERE a.message_id = m.id)",
        *_conditions(filters, "m.", "m.id", before),
    ]
    where = " AND ".join(conditions)
    queries = [
        f"{_ACCEPTED} {join} WHERE {where} ORDER BY m.id DESC LIMIT %(limit)s" for join in _WAITING
    ]
    if filters.reason is Reason.SCHEDULED:
        return queries[1:2]
    return queries[::2] if filters.reason is Reason.QUEUED else queries


def _conditions(filters: Filters, prefix: str, key: str, before: UUID | None) -> list[str]:
    words = ("customer_id", "recipient", "channel", "workflow")
    found = [f"{prefix}{name} = %({name})s" for name in words if getattr(filters, name) is not None]
    for name, comparison in (("since", ">="), ("until", "<")):
        if getattr(filters, name) is not None:
            found.append(f"{prefix}created_at {comparison} %({name})s")
            found.append(_ID_BOUNDS[name].format(id=key))
    if before is not None:
        found.append(f"{key} < %(before)s")
    return found


def _may_be_unheard_of(filters: Filters) -> bool:
    return (
        filters.status in {None, Status.PENDING}
        and filters.reason in {None, Reason.QUEUED, Reason.SCHEDULED}
        and filters.provider is None
    )


def _id(row: Mapping[str, Any]) -> UUID:
    found: UUID = row["id"]
    return found


def _message(row: dict[str, Any]) -> Message:
    priority = row["priority"]
    words = {
        "channel": Channel(row["channel"]),
        "status": Status(row["status"]),
        "reason": Reason(row["reason"]),
        "priority": Priority(priority) if priority else None,
        "mode": Mode(row["mode"] or Mode.LIVE),
    }
    return Message(**row | words)


def _event(row: dict[str, Any]) -> Event:
    return Event(**row | {"status": Status(row["status"]), "reason": Reason(row["reason"])})


def _acceptance(message: Message) -> Event:
    """What happened to a message that no event tells of yet: it was accepted."""
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
