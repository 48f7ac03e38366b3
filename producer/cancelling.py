"""Withdrawing a message before an attempt begins.

The API calls `cancel`. Who was first, the cancellation or a consumer's claim, is decided by the
ledger's primary key inside `consumers.withdraw`; everything else happens in the same transaction.
"""

import json
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.database import translated
from schemas import topics
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.ids import event_id
from schemas.vocabulary import Channel, Priority, Reason, Status


class Cancellation(StrEnum):
    """What came of the wish."""

    DONE = "done"
    TOO_LATE = "too_late"
    NO_SUCH_MESSAGE = "no_such_message"


_FIND = """
SELECT channel, recipient, customer_id, workflow, priority, created_at, send_at, expires_at,
       metadata::text
FROM producer.message WHERE id = %s AND tenant = %s
"""

_ANNOUNCE = """
INSERT INTO producer.outbox (message_id, topic, key, value) VALUES (%s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""


async def cancel(
    pool: AsyncConnectionPool, codec: Codec, *, tenant: str, message_id: UUID, at: datetime
) -> Cancellation:
    """Withdraw a message of `tenant`; once withdrawn it is never sent.

    Raises:
        DatabaseUnavailableError: nothing was changed.
    """
    with translated():
        async with pool.connection() as connection, connection.transaction():
            event = await _event(connection, tenant, message_id, at)
            if event is None:
                return Cancellation.NO_SUCH_MESSAGE
            cursor = await connection.execute(
                "SELECT consumers.withdraw(%s, %s, %s)", (message_id, tenant, event.channel.value)
            )
            if (await cursor.fetchone()) != (True,):
                return Cancellation.TOO_LATE
            for table in ("outbox", "scheduled"):
                await connection.execute(
                    f"DELETE FROM producer.{table} WHERE message_id = %s",  # noqa: S608 - ours
                    (message_id,),
                )
            value = codec.encode(event, topic=topics.STATUS)
            await connection.execute(_ANNOUNCE, (message_id, topics.STATUS, str(message_id), value))
    return Cancellation.DONE


async def _event(
    connection: AsyncConnection, tenant: str, message_id: UUID, at: datetime
) -> StatusEvent | None:
    """The event that announces the end, from what was kept of the message."""
    cursor = await connection.execute(_FIND, (message_id, tenant))
    row = await cursor.fetchone()
    if row is None:
        return None
    channel, recipient, customer_id, workflow, priority, created_at, send_at, expires_at, data = row
    return StatusEvent(
        id=event_id(message_id, Status.CANCELLED, Reason.CANCELLED, 0),
        message_id=message_id,
        tenant=tenant,
        channel=Channel(channel),
        status=Status.CANCELLED,
        reason=Reason.CANCELLED,
        occurred_at=at,
        recipient=recipient,
        customer_id=customer_id,
        workflow=workflow,
        priority=Priority(priority),
        created_at=created_at,
        send_at=send_at,
        expires_at=expires_at,
        metadata=json.loads(data),
    )
