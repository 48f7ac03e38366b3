"""The list in PostgreSQL, as the API and the receipt endpoint use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translated
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
# The recipient as the message had it, wherever that is still known.
_FROM_RECEIPTS = """
INSERT INTO consumers.suppression (tenant, channel, recipient, reason, message_id)
SELECT DISTINCT ON (m.tenant, m.channel, m.recipient) m.tenant, m.channel,
    CASE m.channel WHEN 'email' THEN lower(m.recipient) ELSE m.recipient END, r.reason, r.id
FROM unnest(%s::uuid[], %s::text[]) AS r (id, reason)
CROSS JOIN LATERAL (
    SELECT tenant, channel, recipient FROM producer.message WHERE id = r.id
    UNION ALL
    SELECT tenant, channel, recipient FROM audit.state
    WHERE message_id = r.id AND recipient IS NOT NULL
    LIMIT 1
) m
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """One entry; `message_id` is the message whose receipt brought it, if one did."""

    channel: Channel
    recipient: str
    reason: SuppressionReason
    message_id: UUID | None
    created_at: datetime

    def __repr__(self) -> str:
        return f"Suppressed({self.channel} {self.reason})"


class SuppressionList:
    """Every method raises `DatabaseError` when nothing was changed or can be told."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def add(
        self, tenant: str, channel: Channel, recipient: str, *, reason: SuppressionReason
    ) -> Suppressed:
        """Put a recipient, in its normal form, on the list; a later reason replaces the earlier."""
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_ADD, (tenant, channel, recipient, reason))
                row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - an insert that returns its row
        return _suppressed(row)

    async def remove(self, tenant: str, channel: Channel, recipient: str) -> bool:
        """Take a recipient off the list; whether it was there."""
        with translated():
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
    ) -> list[Suppressed]:
        """Entries in order of channel and recipient, those after `after`."""
        values = {
            "tenant": tenant,
            "channel": channel,
            "recipient": recipient,
            "after_channel": after[0],
            "after_recipient": after[1],
            "limit": limit,
        }
        with translated():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_LIST, values)).fetchall()
        return [_suppressed(row) for row in rows]

    async def add_from_receipts(self, found: Sequence[tuple[UUID, SuppressionReason]]) -> None:
        """Put the recipients of these messages on the list; one that is there stays as it is."""
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(
                    _FROM_RECEIPTS, ([i for i, _ in found], [r.value for _, r in found])
                )


def _suppressed(row: tuple[object, ...]) -> Suppressed:
    channel, recipient, reason, message_id, created_at = row
    return Suppressed(
        Channel(str(channel)),
        str(recipient),
        SuppressionReason(str(reason)),
        message_id if isinstance(message_id, UUID) else None,
        created_at if isinstance(created_at, datetime) else datetime.min,
    )
