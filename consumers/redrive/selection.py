"""The messages of a tenant that a filter finds: how many, and which, a page at a time.

Messages of which no event has been heard of are still on their way; the audit store knows all the
others, and nothing here needs more than it says of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translated
from consumers.redrive.where import Condition

_COUNT = """
SELECT status, reason, count(*) AS count FROM audit.state
WHERE tenant = %(tenant)s AND {condition}
GROUP BY status, reason ORDER BY count(*) DESC, status, reason
"""
_PAGE = """
SELECT message_id AS id, channel, recipient AS "to", status, reason, attempts, created_at
FROM audit.state
WHERE tenant = %(tenant)s AND {condition}
  AND (%(before)s::uuid IS NULL OR message_id < %(before)s)
ORDER BY message_id DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """How many of what was found stand alike."""

    status: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Found:
    """A message that the filter finds, as it stood."""

    id: UUID
    channel: str
    to: str | None
    status: str
    reason: str
    attempts: int
    created_at: datetime


class Selection:
    """Every method raises `DatabaseError` when it cannot be told now."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def groups(self, tenant: str, condition: Condition) -> list[Group]:
        """How many there are, by status and reason."""
        return [Group(**row) for row in await self._rows(_COUNT, condition, {"tenant": tenant})]

    async def page(
        self, tenant: str, condition: Condition, *, limit: int, before: UUID | None = None
    ) -> list[Found]:
        """At most `limit`, newest first; `before` continues a former page."""
        values = {"tenant": tenant, "limit": limit, "before": before}
        return [Found(**row) for row in await self._rows(_PAGE, condition, values)]

    async def _rows(
        self, statement: str, condition: Condition, values: Mapping[str, object]
    ) -> Sequence[dict[str, Any]]:
        query = statement.format(condition=condition.sql).encode()
        with translated():
            async with (
                self._pool.connection() as connection,
                connection.cursor(row_factory=dict_row) as cursor,
            ):
                await cursor.execute(query, {**condition.values, **values})
                return await cursor.fetchall()
