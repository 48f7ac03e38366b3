"""The suppression list in PostgreSQL, as its API and the receipt processor use it.

The ledger's claim statement reads the same table (`consumers.ledger.statements`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from consumers.suppression.recipients import normal
from schemas.vocabulary import Channel, SuppressionReason

_ADD = """
INSERT INTO consumers.suppression AS s (tenant, channel, recipient, reason)
VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant, channel, recipient) DO UPDATE SET reason = excluded.reason
RETURNING channel, recipient, reason, message_id, created_at
"""
_LIST = """
SELECT channel, recipient, reason, message_id, created_at FROM consumers.suppression
WHERE tenant = %(tenant)s AND (%(channel)s::text IS NULL OR channel = %(channel)s)
  AND (%(recipient)s::text IS NULL OR recipient = %(recipient)s)
  AND (channel, recipient) > (%(after_channel)s, %(after_recipient)s)
ORDER BY channel, recipient LIMIT %(limit)s
"""
# The recipient of a message: as the producer accepted it, or, for a message that came by the front
# door, as it is recorded.
_ACCEPTED = """
SELECT id, tenant, channel, recipient FROM producer.accepted_message WHERE id = ANY(%s)
"""
_RECORDED = """
SELECT message_id, tenant, channel, recipient FROM audit.recorded_message
WHERE message_id = ANY(%s) AND recipient IS NOT NULL
"""
_ADD_FROM_RECEIPTS = """
INSERT INTO consumers.suppression (tenant, channel, recipient, reason, message_id)
SELECT DISTINCT ON (tenant, channel, recipient) r.*
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::uuid[])
    AS r (tenant, channel, recipient, reason, message_id)
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class SuppressedRecipient:
    """One entry of the list.

    Args:
        message_id: the message whose receipt put the recipient on the list, if one did.
    """

    channel: Channel
    recipient: str
    reason: SuppressionReason
    message_id: UUID | None
    created_at: datetime

    def __repr__(self) -> str:
        return f"SuppressedRecipient({self.channel} {self.reason})"


class SuppressionList:
    """The list of every tenant.

    Every method raises `DatabaseError` when nothing was changed, or the database cannot answer.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def add(
        self, tenant: str, channel: Channel, recipient: str, *, reason: SuppressionReason
    ) -> SuppressedRecipient:
        """Add a recipient in its normal form. A later reason replaces the earlier one."""
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_ADD, (tenant, channel, recipient, reason))
                row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - an insert that returns its row
        return _entry(row)

    async def remove(self, tenant: str, channel: Channel, recipient: str) -> bool:
        """Remove a recipient; return whether it was on the list."""
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "DELETE FROM consumers.suppression"
                    " WHERE tenant = %s AND channel = %s AND recipient = %s",
                    (tenant, channel, recipient),
                )
                return cursor.rowcount > 0

    async def page(
        self,
        tenant: str,
        *,
        channel: Channel | None,
        recipient: str | None,
        after: tuple[str, str],
        limit: int,
    ) -> list[SuppressedRecipient]:
        """Return entries in the order of channel and recipient.

        Args:
            after: the channel and recipient of the last entry of the page before.
        """
        values = {
            "tenant": tenant,
            "channel": channel,
            "recipient": recipient,
            "after_channel": after[0],
            "after_recipient": after[1],
            "limit": limit,
        }
        with translate_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_LIST, values)).fetchall()
        return [_entry(row) for row in rows]

    async def add_from_receipts(self, reasons: Sequence[tuple[UUID, SuppressionReason]]) -> None:
        """Add the recipients of messages, each for a reason; an existing entry stays as it is."""
        with translate_errors():
            async with self._pool.connection() as connection:
                recipients = await _recipients(connection, [i for i, _ in reasons])
                rows = [
                    (*recipients[message_id], reason.value, message_id)
                    for message_id, reason in reasons
                    if message_id in recipients
                ]
                if rows:
                    columns = [list(column) for column in zip(*rows, strict=True)]
                    await connection.execute(_ADD_FROM_RECEIPTS, columns)


async def _recipients(
    connection: AsyncConnection, message_ids: Sequence[UUID]
) -> dict[UUID, tuple[str, Channel, str]]:
    """Return tenant, channel and recipient, in its normal form, of each message that is known."""
    accepted = await (await connection.execute(_ACCEPTED, (list(message_ids),))).fetchall()
    others = sorted(set(message_ids) - {row[0] for row in accepted})
    recorded = []
    if others:
        recorded = await (await connection.execute(_RECORDED, (others,))).fetchall()
    return {
        message_id: (tenant, Channel(channel), normal(Channel(channel), recipient))
        for message_id, tenant, channel, recipient in (*accepted, *recorded)
    }


def _entry(row: tuple[object, ...]) -> SuppressedRecipient:
    channel, recipient, reason, message_id, created_at = row
    return SuppressedRecipient(
        Channel(str(channel)),
        str(recipient),
        SuppressionReason(str(reason)),
        message_id if isinstance(message_id, UUID) else None,
        created_at if isinstance(created_at, datetime) else datetime.min,
    )
