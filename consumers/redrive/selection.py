"""Finds the messages of a tenant that a filter matches: how many, and which, a page at a time.

The API asks, for a dry run and for each page of a resend run. Only messages of which an event is
recorded are found. All others are still on their way, and cannot be sent again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from consumers.redrive.where import Condition

_COUNT = """
SELECT status, reason, count(*) AS count FROM audit.recorded_message
WHERE tenant = %(tenant)s AND {condition}
GROUP BY status, reason ORDER BY count(*) DESC, status, reason
"""
_PAGE = """
SELECT message_id AS id, channel, recipient AS "to", status, reason, attempts, created_at
FROM audit.recorded_message
WHERE tenant = %(tenant)s AND {condition}
  AND (%(before)s::uuid IS NULL OR message_id < %(before)s)
ORDER BY message_id DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchCount:
    """How many of the matching messages have this status and reason."""

    status: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MatchingMessage:
    """A message that the filter matches, as it was recorded."""

    id: UUID
    channel: str
    to: str | None
    status: str
    reason: str
    attempts: int
    created_at: datetime


class Selection:
    """Finds messages by filter; raises `DatabaseError` when the database cannot answer."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def count(self, tenant: str, condition: Condition) -> list[MatchCount]:
        """Count the matching messages by status and reason."""
        rows = await self._rows(_COUNT, condition, {"tenant": tenant})
        return [MatchCount(**row) for row in rows]

    async def page(
        self, tenant: str, condition: Condition, *, limit: int, before: UUID | None = None
    ) -> list[MatchingMessage]:
        """Return at most `limit` matching messages, newest first.

        Args:
            before: the last id of the page before; None for the first page.
        """
        values = {"tenant": tenant, "limit": limit, "before": before}
        return [MatchingMessage(**row) for row in await self._rows(_PAGE, condition, values)]

    async def _rows(
        self, statement: str, condition: Condition, values: Mapping[str, object]
    ) -> Sequence[dict[str, Any]]:
        query = statement.format(condition=condition.sql).encode()
        with translate_errors():
            async with (
                self._pool.connection() as connection,
                connection.cursor(row_factory=dict_row) as cursor,
            ):
                await cursor.execute(query, {**condition.values, **values})
                return await cursor.fetchall()
