"""Withdrawing a message before anything is sent.

The API calls `cancel`. What no attempt has begun for can be withdrawn, and what waits to be tried
again after attempts that sent nothing. Who was first, the cancellation or a consumer's claim, is
decided by the ledger's primary key inside `consumers.withdraw`; everything else happens in the same
transaction.
"""

from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection, Rollback
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translated
from schemas.codec import Codec
from schemas.events import StatusEvent, cancelled
from schemas.messages import MessageHeader
from schemas.topics import STATUS
from schemas.vocabulary import Channel, Priority


class NoSuchMessageError(Exception):
    """The tenant has no message of that id."""


class TooLateError(Exception):
    """It was sent, may have been, is being sent, or has ended."""


_FIND = """
SELECT id, tenant, channel, recipient, customer_id, workflow, priority, created_at,
       send_at, expires_at, metadata
FROM producer.message WHERE id = %s AND tenant = %s
"""

# A message that no consumer has claimed still has its row here, and one that is to be tried again
# has one of the channel's. The ledger alone does not tell: it forgets after some weeks, and would
# let a message be withdrawn that was sent long ago.
_TAKE_BACK = """
WITH queued AS (
    DELETE FROM producer.outbox WHERE message_id = %(id)s AND topic <> %(status)s RETURNING 1
), waiting AS (
    DELETE FROM producer.scheduled WHERE message_id = %(id)s RETURNING 1
)
SELECT EXISTS (SELECT FROM queued) OR EXISTS (SELECT FROM waiting)
"""
# Read after the outbox: a message that was claimed in between and is to be tried again is found
# here.
_IS_DEFERRED = "SELECT consumers.is_deferred(%s)"
_WITHDRAW = "SELECT consumers.withdraw(%s, %s, %s)"


async def cancel(
    pool: AsyncConnectionPool, codec: Codec, *, tenant: str, message_id: UUID, at: datetime
) -> tuple[MessageHeader, int]:
    """Withdraw a message of `tenant`; once withdrawn it is never sent.

    Returns:
        The header of the message, and how many attempts had been made.

    Raises:
        NoSuchMessageError, TooLateError: nothing was changed.
        DatabaseUnavailableError: nothing was changed, as far as the database could tell us.
    """
    with translated():
        async with pool.connection() as connection:
            header = await _find(connection, tenant, message_id)
            attempts = None
            async with connection.transaction():
                attempts = await _withdraw(connection, header)
                if attempts is None:
                    raise Rollback
                event = cancelled(header, at=at, attempt=attempts)
                await _announce(connection, codec, event)
    if attempts is None:
        raise TooLateError
    return header, attempts


async def _find(connection: AsyncConnection, tenant: str, message_id: UUID) -> MessageHeader:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND, (message_id, tenant))
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
    """How many attempts had been made, or None where it is too late."""
    cursor = await connection.execute(_TAKE_BACK, {"id": header.id, "status": STATUS})
    if await cursor.fetchone() != (True,):
        cursor = await connection.execute(_IS_DEFERRED, (header.id,))
        if await cursor.fetchone() != (True,):
            return None
    cursor = await connection.execute(_WITHDRAW, (header.id, header.tenant, header.channel.value))
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def _announce(connection: AsyncConnection, codec: Codec, event: StatusEvent) -> None:
    value, key = codec.encode(event, topic=STATUS), str(event.message_id)
    await connection.execute(
        "INSERT INTO producer.outbox (message_id, topic, key, value) VALUES (%s, %s, %s, %s)",
        (event.message_id, STATUS, key, value),
    )
