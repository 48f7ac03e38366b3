"""Reads what was recorded since a given point, in an order that misses nothing.

Events become visible when their transaction commits, which is not the order of their numbers. The
cursor is therefore the pair (transaction, number), and only transactions older than every one still
open are read, so that no event can appear behind the cursor. `audit.feed` reads.
"""

from dataclasses import dataclass
from typing import Self

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row

from audit.records import Change
from comms.platform.database import translate_errors
from schemas.vocabulary import Channel, Reason, Status

Connection = AsyncConnection[TupleRow]

_CURRENT_XMIN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"

_SINCE = """
SELECT xid::text || '-' || seq AS cursor, tenant, id, message_id, channel, status, reason, attempt,
       provider, occurred_at, recorded_at
FROM audit.history
WHERE (xid, seq) > (%(xid)s::xid8, %(seq)s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
  AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
ORDER BY history.xid, history.seq
LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A point in the order of recording."""

    xid: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse what a client sends back as `Last-Event-ID`; None if it is not a cursor."""
        xid, dash, seq = text.partition("-")
        if not dash or not _is_number(xid) or not _is_number(seq):
            return None
        return cls(int(xid), int(seq))

    def __str__(self) -> str:
        return f"{self.xid}-{self.seq}"


async def current_position(connection: Connection) -> Cursor:
    """Return the point before which everything is recorded.

    Raises:
        DatabaseError: the database cannot answer now.
    """
    with translate_errors():
        row = await (await connection.execute(_CURRENT_XMIN)).fetchone()
    return Cursor(int(row[0]), 0) if row else Cursor(0, 0)


async def read_since(
    connection: Connection, cursor: Cursor, *, limit: int, tenant: str | None = None
) -> list[Change]:
    """Return at most `limit` changes after `cursor`, of one tenant or of all.

    Raises:
        DatabaseError: the database cannot answer now.
    """
    values = {"xid": str(cursor.xid), "seq": cursor.seq, "tenant": tenant, "limit": limit}
    with translate_errors():
        async with connection.cursor(row_factory=dict_row) as rows_cursor:
            await rows_cursor.execute(_SINCE, values)
            rows = await rows_cursor.fetchall()
    return [
        Change(
            **row
            | {
                "channel": Channel(row["channel"]),
                "status": Status(row["status"]),
                "reason": Reason(row["reason"]),
            }
        )
        for row in rows
    ]


def _is_number(text: str) -> bool:
    """Return whether a text is a number that fits into PostgreSQL's bigint."""
    return text.isascii() and text.isdecimal() and int(text) < 1 << 63
