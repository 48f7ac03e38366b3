"""A person's wish for another attempt: whether it can be had, and the row that asks for it.

The API and `resolving` put wishes here; the channel's deferred feed takes them up, and
`consumers.ledger.decisions` decides what comes of each. The same nonce is the same wish, for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translated
from schemas.lifecycle import RESENDABLE
from schemas.vocabulary import Status

# The newest word of the ledger tells where a message stands; one of which the ledger knows nothing
# is still on its way to it, or was forgotten by it.
_LOOK = """
SELECT w.id, newest.status, newest.attempt IS NOT NULL AS attempted, newest.known,
    first.value IS NOT NULL AS kept, m.id IS NOT NULL OR s.message_id IS NOT NULL AS accepted,
    s.status AS shown,
    coalesce(coalesce(m.expires_at, s.expires_at) <= clock_timestamp(), false) AS late
FROM unnest(%(ids)s::uuid[], %(nonces)s::uuid[]) AS w (id, nonce)
LEFT JOIN consumers.attempt first
    ON first.message_id = w.id AND first.attempt = 1 AND first.tenant = %(tenant)s
LEFT JOIN LATERAL (
    SELECT a.attempt, o.status,
        EXISTS (SELECT FROM consumers.deferred d WHERE (d.message_id, d.nonce) = (w.id, w.nonce))
        OR EXISTS (SELECT FROM consumers.attempt b WHERE (b.message_id, b.nonce) = (w.id, w.nonce))
        AS known
    FROM consumers.attempt a LEFT JOIN consumers.outcome o USING (message_id, attempt)
    WHERE a.message_id = first.message_id ORDER BY a.attempt DESC LIMIT 1
) newest ON true
LEFT JOIN producer.message m ON m.id = w.id AND m.tenant = %(tenant)s
LEFT JOIN audit.state s ON s.message_id = w.id AND s.tenant = %(tenant)s
"""
_QUEUE = """
INSERT INTO consumers.deferred (message_id, nonce, channel, value, due_at)
SELECT a.message_id, w.nonce, a.channel, a.value, clock_timestamp()
FROM unnest(%s::uuid[], %s::uuid[]) AS w (id, nonce)
JOIN consumers.attempt a ON a.message_id = w.id AND a.attempt = 1
ORDER BY 1
ON CONFLICT DO NOTHING
"""


class Answer(StrEnum):
    """What became of a wish."""

    QUEUED = "queued"
    KNOWN = "known"
    NO_SUCH = "no_such"
    ON_ITS_WAY = "on_its_way"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FORGOTTEN = "forgotten"


REFUSALS: Mapping[Answer, str] = MappingProxyType(
    {
        Answer.NO_SUCH: "There is no such message",
        Answer.ON_ITS_WAY: "It is still on its way",
        Answer.CANCELLED: "It was cancelled",
        Answer.EXPIRED: "Its expires_at has passed",
        Answer.FORGOTTEN: "Its contents are not kept, or not any more",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """Where a message stands; the fields are the columns of `_LOOK`."""

    id: UUID
    status: str | None
    attempted: bool
    known: bool | None
    kept: bool
    accepted: bool
    shown: str | None
    late: bool

    def answer(self) -> Answer:
        """What a wish for another attempt is answered."""
        if self.known:
            return Answer.KNOWN
        if not self.attempted:
            return self._unattempted()
        status = None if self.status is None else Status(self.status)
        if status is Status.CANCELLED:
            return Answer.CANCELLED
        if status not in RESENDABLE:
            return Answer.ON_ITS_WAY
        if self.late:
            return Answer.EXPIRED
        return Answer.QUEUED if self.kept else Answer.FORGOTTEN

    def _unattempted(self) -> Answer:
        if not self.accepted:
            return Answer.NO_SUCH
        if self.shown in {None, Status.PENDING}:
            return Answer.ON_ITS_WAY
        return Answer.CANCELLED if self.shown == Status.CANCELLED else Answer.FORGOTTEN


class ResendRequests:
    """Wishes of tenants, in PostgreSQL."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def ask(self, tenant: str, nonces: Mapping[UUID, UUID]) -> dict[UUID, Answer]:
        """Ask for another attempt of each message, by its nonce; all that can be had, or none.

        Raises:
            DatabaseError: nothing was asked, as far as the database could tell us.
        """
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                return await ask(connection, tenant, nonces)


async def ask(
    connection: AsyncConnection, tenant: str, nonces: Mapping[UUID, UUID]
) -> dict[UUID, Answer]:
    """The same, within the caller's transaction. Raises what psycopg does."""
    values = {"ids": list(nonces), "nonces": list(nonces.values()), "tenant": tenant}
    async with connection.cursor(row_factory=class_row(_Standing)) as cursor:
        await cursor.execute(_LOOK, values)
        answers = {standing.id: standing.answer() for standing in await cursor.fetchall()}
    chosen = [i for i, answer in answers.items() if answer is Answer.QUEUED]
    if chosen:
        await connection.execute(_QUEUE, (chosen, [nonces[i] for i in chosen]))
    return answers
