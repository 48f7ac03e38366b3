"""Cancels a message before it is sent.

`producer.api` calls `cancel`. A message can be cancelled if no attempt has started, or if it waits
for another attempt after attempts that sent nothing. A cancellation and a consumer's claim may
happen at the same time. The primary key of the ledger decides which one is first, inside
`consumers.withdraw`. Everything else happens in the same transaction.
"""

from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection, Rollback
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from schemas.codec import Codec
from schemas.events import StatusEvent, cancelled
from schemas.messages import MessageHeader
from schemas.topics import STATUS
from schemas.vocabulary import Channel, Priority


class NoSuchMessageError(Exception):
    """The tenant has no message with this id."""


class TooLateError(Exception):
    """The message was sent, may have been sent, is being sent, or has ended."""


_READ_HEADER = """
SELECT id, tenant, channel, recipient, customer_id, workflow, priority, created_at,
       send_at, expires_at, metadata
FROM producer.message WHERE id = %s AND tenant = %s
"""

# A message that no consumer has claimed still has its row here. A message that waits for another
# attempt has a row of the channel's instead. The ledger alone is not enough: it deletes its rows
# after some weeks, and would then allow to cancel a message that was sent long ago.
_DEQUEUE = """
WITH queued AS (
    DELETE FROM producer.outbox WHERE message_id = %(id)s AND topic <> %(status)s RETURNING 1
), waiting AS (
    DELETE FROM producer.scheduled WHERE message_id = %(id)s RETURNING 1
)
SELECT EXISTS (SELECT FROM queued) OR EXISTS (SELECT FROM waiting)
"""
# Read after the outbox: this finds a message that was claimed in between and waits for another
# attempt.
_IS_DEFERRED = "SELECT consumers.is_deferred(%s)"
_WITHDRAW = "SELECT consumers.withdraw(%s, %s, %s)"


async def cancel(
    pool: AsyncConnectionPool, codec: Codec, *, tenant: str, message_id: UUID, at: datetime
) -> tuple[MessageHeader, int]:
    """Cancel a message of `tenant`, so that it is never sent.

    Returns:
        The header of the message, and the number of attempts made before.

    Raises:
        NoSuchMessageError: nothing was changed.
        TooLateError: nothing was changed.
        DatabaseUnavailableError: nothing was changed, unless the database was lost during the
            commit.
    """
    with translate_errors():
        async with pool.connection() as connection:
            header = await _read_header(connection, tenant, message_id)
            attempts = await _cancel_in_transaction(connection, codec, header, at=at)
    if attempts is None:
        raise TooLateError
    return header, attempts


async def _cancel_in_transaction(
    connection: AsyncConnection, codec: Codec, header: MessageHeader, *, at: datetime
) -> int | None:
    """Return the number of attempts before, or None if it is too late and nothing was changed."""
    attempts = None
    async with connection.transaction():
        attempts = await _withdraw(connection, header)
        if attempts is None:
            raise Rollback
        await _enqueue_event(connection, codec, cancelled(header, at=at, attempt=attempts))
    return attempts


async def _read_header(connection: AsyncConnection, tenant: str, message_id: UUID) -> MessageHeader:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_READ_HEADER, (message_id, tenant))
        row = await cursor.fetchone()
    if row is None:
        raise NoSuchMessageError
    columns = {
        **row,
        "channel": Channel(row["channel"]),
        "priority": Priority(row["priority"]),
    }
    return MessageHeader(**columns)


async def _withdraw(connection: AsyncConnection, header: MessageHeader) -> int | None:
    """Withdraw the message; return the number of attempts before, or None if it is too late."""
    cursor = await connection.execute(_DEQUEUE, {"id": header.id, "status": STATUS})
    if await cursor.fetchone() != (True,):
        cursor = await connection.execute(_IS_DEFERRED, (header.id,))
        if await cursor.fetchone() != (True,):
            return None
    cursor = await connection.execute(_WITHDRAW, (header.id, header.tenant, header.channel.value))
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def _enqueue_event(connection: AsyncConnection, codec: Codec, event: StatusEvent) -> None:
    value, key = codec.encode(event, topic=STATUS), str(event.message_id)
    await connection.execute(
        "INSERT INTO producer.outbox (message_id, topic, key, value) VALUES (%s, %s, %s, %s)",
        (event.message_id, STATUS, key, value),
    )
