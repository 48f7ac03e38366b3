"""Resend requests: whether a message may be sent again, and the row that requests it.

The API and `resolving` call `request_resends`. It puts rows into `consumers.deferred`; the
channel's deferred feed leases them, and `consumers.ledger.decisions` decides what each leads to. A
request is identified by its nonce: the same nonce is the same request, however often it is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from schemas.lifecycle import RESENDABLE
from schemas.vocabulary import Status

# What the producer and the audit service know of the messages is read before the ledger. An event
# is recorded after the ledger has its attempt, so that an attempt of which these tell is in the
# ledger when it is read, unless it is no longer kept.
_ACCEPTED = """
SELECT id, expires_at FROM producer.accepted_message
WHERE id = ANY(%(ids)s) AND tenant = %(tenant)s
"""
_RECORDED = """
SELECT message_id, status, expires_at FROM audit.recorded_message
WHERE message_id = ANY(%(ids)s) AND tenant = %(tenant)s
"""
_IN_LEDGER = """
SELECT w.id, newest.status, newest.attempt IS NOT NULL AS is_attempted,
    coalesce(newest.is_requested, false) AS is_requested, first.value IS NOT NULL AS is_kept,
    coalesce(w.expires_at <= clock_timestamp(), false) AS is_expired
FROM unnest(%(ids)s::uuid[], %(nonces)s::uuid[], %(expiries)s::timestamptz[])
    AS w (id, nonce, expires_at)
LEFT JOIN consumers.attempt first
    ON first.message_id = w.id AND first.attempt = 1 AND first.tenant = %(tenant)s
LEFT JOIN LATERAL (
    SELECT a.attempt, o.status,
        EXISTS (SELECT FROM consumers.deferred d WHERE (d.message_id, d.nonce) = (w.id, w.nonce))
        OR EXISTS (SELECT FROM consumers.attempt b WHERE (b.message_id, b.nonce) = (w.id, w.nonce))
        AS is_requested
    FROM consumers.attempt a LEFT JOIN consumers.outcome o USING (message_id, attempt)
    WHERE a.message_id = first.message_id ORDER BY a.attempt DESC LIMIT 1
) newest ON true
"""
_QUEUE = """
INSERT INTO consumers.deferred (message_id, nonce, channel, value, due_at)
SELECT a.message_id, w.nonce, a.channel, a.value, clock_timestamp()
FROM unnest(%s::uuid[], %s::uuid[]) AS w (id, nonce)
JOIN consumers.attempt a ON a.message_id = w.id AND a.attempt = 1
ORDER BY 1
ON CONFLICT DO NOTHING
"""


class ResendAnswer(StrEnum):
    """What a resend request is answered. The values are part of the HTTP answers."""

    QUEUED = "queued"
    KNOWN = "known"
    NO_SUCH = "no_such"
    ON_ITS_WAY = "on_its_way"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FORGOTTEN = "forgotten"


REFUSALS: Mapping[ResendAnswer, str] = MappingProxyType(
    {
        ResendAnswer.NO_SUCH: "There is no such message",
        ResendAnswer.ON_ITS_WAY: "The message is still on its way",
        ResendAnswer.CANCELLED: "The message was cancelled",
        ResendAnswer.EXPIRED: "The message's expires_at has passed",
        ResendAnswer.FORGOTTEN: "The message's contents are not kept, or no longer kept",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LedgerState:
    """Where a message stands in the ledger; the fields are the columns of `_IN_LEDGER`."""

    id: UUID
    status: str | None
    is_attempted: bool
    is_requested: bool
    is_kept: bool
    is_expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _OtherServices:
    """What the producer and the audit service have of messages.

    Args:
        ids: the messages that one of them knows.
        statuses: as the audit service shows them.
        expiries: when messages expire, where they do.
    """

    ids: frozenset[UUID]
    statuses: Mapping[UUID, Status]
    expiries: Mapping[UUID, datetime]


class ResendRequests:
    """Resend requests of tenants, in PostgreSQL."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def request(self, tenant: str, nonces: Mapping[UUID, UUID]) -> dict[UUID, ResendAnswer]:
        """Request another attempt of messages, all in one transaction.

        Args:
            nonces: the request's nonce for each message id.

        Raises:
            DatabaseError: nothing was requested, as far as the database could report.
        """
        with translate_errors():
            async with self._pool.connection() as connection, connection.transaction():
                return await request_resends(connection, tenant, nonces)


async def request_resends(
    connection: AsyncConnection, tenant: str, nonces: Mapping[UUID, UUID]
) -> dict[UUID, ResendAnswer]:
    """Request another attempt of messages within the caller's transaction.

    Raises what psycopg raises.
    """
    others = await _read_elsewhere(connection, tenant, list(nonces))
    answers = {
        state.id: _answer(state, others)
        for state in await _ledger_states(connection, tenant, nonces, others)
    }
    queued = [i for i, answer in answers.items() if answer is ResendAnswer.QUEUED]
    if queued:
        await connection.execute(_QUEUE, (queued, [nonces[i] for i in queued]))
    return answers


async def _read_elsewhere(
    connection: AsyncConnection, tenant: str, ids: list[UUID]
) -> _OtherServices:
    values = {"ids": ids, "tenant": tenant}
    accepted = await (await connection.execute(_ACCEPTED, values)).fetchall()
    recorded = await (await connection.execute(_RECORDED, values)).fetchall()
    expiries = [*((row[0], row[2]) for row in recorded), *accepted]
    return _OtherServices(
        ids=frozenset(row[0] for row in (*accepted, *recorded)),
        statuses={message_id: Status(status) for message_id, status, _ in recorded},
        expiries={message_id: at for message_id, at in expiries if at is not None},
    )


async def _ledger_states(
    connection: AsyncConnection,
    tenant: str,
    nonces: Mapping[UUID, UUID],
    others: _OtherServices,
) -> list[_LedgerState]:
    values = {
        "ids": list(nonces),
        "nonces": list(nonces.values()),
        "expiries": [others.expiries.get(message_id) for message_id in nonces],
        "tenant": tenant,
    }
    async with connection.cursor(row_factory=class_row(_LedgerState)) as cursor:
        await cursor.execute(_IN_LEDGER, values)
        return await cursor.fetchall()


def _answer(state: _LedgerState, others: _OtherServices) -> ResendAnswer:
    """Decide by the newest attempt; a message without one is on its way to the ledger, or old."""
    if state.is_requested:
        return ResendAnswer.KNOWN
    if not state.is_attempted:
        return _unattempted(state.id, others)
    status = None if state.status is None else Status(state.status)
    if status is Status.CANCELLED:
        return ResendAnswer.CANCELLED
    if status not in RESENDABLE:
        return ResendAnswer.ON_ITS_WAY
    if state.is_expired:
        return ResendAnswer.EXPIRED
    return ResendAnswer.QUEUED if state.is_kept else ResendAnswer.FORGOTTEN


def _unattempted(message_id: UUID, others: _OtherServices) -> ResendAnswer:
    if message_id not in others.ids:
        return ResendAnswer.NO_SUCH
    match others.statuses.get(message_id, Status.PENDING):
        case Status.PENDING:
            return ResendAnswer.ON_ITS_WAY
        case Status.CANCELLED:
            return ResendAnswer.CANCELLED
        case _:
            return ResendAnswer.FORGOTTEN
