"""What a person knows about a call whose answer was lost: it was carried out, or it was not.

The API calls `Resolver.resolve`. The answer is a status event like a receipt's, kept beside the
receipts so that `consumers.pipeline.recovery` announces it again if the broker loses it, and
published before the person is answered. What a receipt says at the same moment is for the lifecycle
to decide; two people exclude each other by a lock on the attempt in question.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform.auth import Caller
from comms.platform.clock import Clock, utc_now
from comms.platform.database import translated
from comms.platform.kafka import EventProducer, KafkaFault
from consumers.redrive.requests import REFUSALS, Answer, ask
from schemas import events
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.topics import STATUS
from schemas.vocabulary import Channel, Reason, Status


class Resolution(StrEnum):
    """How a person settles what is unknown."""

    SENT = "sent"
    FAILED = "failed"
    RESEND = "resend"


class NoSuchMessageError(Exception):
    """The tenant has no message of that id."""


class NotUnknownError(Exception):
    """There is nothing to settle, or it cannot be settled so; the text says why."""


_LOCK = """
SELECT attempt, channel, provider FROM consumers.attempt
WHERE message_id = %s AND tenant = %s ORDER BY attempt DESC LIMIT 1 FOR UPDATE
"""
_IS_KNOWN = """
SELECT EXISTS (SELECT FROM producer.message WHERE id = %(id)s AND tenant = %(tenant)s)
    OR EXISTS (SELECT FROM audit.state WHERE message_id = %(id)s AND tenant = %(tenant)s)
"""
# In a statement of its own, for its fresh snapshot: it sees what whoever held the lock has done.
_LOOK = """
SELECT (SELECT status FROM consumers.outcome WHERE message_id = %(id)s AND attempt = %(attempt)s),
    EXISTS (SELECT FROM consumers.deferred WHERE message_id = %(id)s AND nonce = %(nonce)s),
    (SELECT name FROM comms.api_key WHERE id = %(key_id)s),
    array(SELECT value FROM consumers.receipt WHERE message_id = %(id)s)
"""
_KEEP = (
    "INSERT INTO consumers.receipt (message_id, event_id, channel, value) VALUES (%s, %s, %s, %s)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doubt:
    """The attempt in question, and what has been said of it.

    Args:
        status: what the ledger says it came to; said: by receipts and by people.
        being_resent: somebody settled it by sending it again; nonce: of that wish.
        by: the name of the caller's API key.
    """

    message_id: UUID
    tenant: str
    attempt: int
    channel: Channel
    provider: str
    status: Status | None
    said: Sequence[StatusEvent]
    being_resent: bool
    nonce: UUID
    by: str

    def settled_by_a_person(self) -> StatusEvent | None:
        """What a person said of this attempt before."""
        return next((e for e in self._of_it() if e.reason is Reason.RESOLVED), None)

    def check(self, resolution: Resolution) -> None:
        """Raises `NotUnknownError` unless it may be settled so."""
        if self.status is not Status.UNKNOWN:
            raise NotUnknownError(f"It is {self.status or Status.SENDING}, not unknown")
        before = self.settled_by_a_person()
        if any(event is not before for event in self._of_it()):
            raise NotUnknownError("A receipt has settled it")
        if before is not None and before.status.value != resolution.value:
            raise NotUnknownError(f"Somebody has settled it as {before.status}")
        if self.being_resent and resolution is not Resolution.RESEND:
            raise NotUnknownError("Somebody is having it sent again")

    def event(self, *, sent: bool, clock: Clock) -> StatusEvent:
        """What is announced."""
        return events.resolved(
            message_id=self.message_id,
            tenant=self.tenant,
            channel=self.channel,
            provider=self.provider,
            attempt=self.attempt,
            sent=sent,
            at=clock(),
            by=self.by,
        )

    def _of_it(self) -> list[StatusEvent]:
        return [e for e in self.said if e.attempt >= self.attempt or e.status is Status.DELIVERED]


class Resolver:
    """Settles what is unknown, for the application."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        producer: EventProducer,
        codec: Codec,
        clock: Clock = utc_now,
    ) -> None:
        self._pool, self._producer, self._codec, self._clock = pool, producer, codec, clock

    async def resolve(self, who: Caller, message_id: UUID, resolution: Resolution) -> Status:
        """Settle an unknown message; the same again is settled once.

        Returns:
            Where it stands now.

        Raises:
            NoSuchMessageError, NotUnknownError: nothing was changed.
            DatabaseError: nothing was changed, as far as the database could tell us.
            KafkaFault: it is settled, and will be announced; nobody has heard of it yet.
        """
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                doubt = await self._doubt(connection, who, message_id)
                doubt.check(resolution)
                if resolution is Resolution.RESEND:
                    await _ask(connection, doubt)
                    return Status.SENDING
                event = await self._keep(connection, doubt, sent=resolution is Resolution.SENT)
        await self._publish(event)
        return event.status

    async def _doubt(self, connection: AsyncConnection, who: Caller, message_id: UUID) -> _Doubt:
        cursor = await connection.execute(_LOCK, (message_id, who.tenant))
        row = await cursor.fetchone()
        if row is None:
            raise await _nothing_attempted(connection, who.tenant, message_id)
        attempt, channel, provider = row
        nonce = uuid5(message_id, f"resolved/{attempt}")
        values = {"id": message_id, "attempt": attempt, "nonce": nonce, "key_id": who.key_id}
        found = await (await connection.execute(_LOOK, values)).fetchone()
        assert found is not None  # noqa: S101 - a row of scalars
        status, being_resent, name, said = found
        return _Doubt(
            message_id=message_id,
            tenant=who.tenant,
            attempt=attempt,
            channel=Channel(channel),
            provider=provider,
            status=None if status is None else Status(status),
            said=[self._codec.decode(bytes(value), StatusEvent) for value in said],
            being_resent=being_resent,
            nonce=nonce,
            by=name or str(who.key_id),
        )

    async def _keep(self, connection: AsyncConnection, doubt: _Doubt, *, sent: bool) -> StatusEvent:
        before = doubt.settled_by_a_person()
        if before is not None:
            return before
        event = doubt.event(sent=sent, clock=self._clock)
        value = self._codec.encode(event, topic=STATUS)
        await connection.execute(_KEEP, (event.message_id, event.id, event.channel.value, value))
        return event

    async def _publish(self, event: StatusEvent) -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()

        def settle(fault: KafkaFault | None) -> None:
            if told.done():  # whoever asked has gone
                return
            if fault is None:
                told.set_result(None)
            else:
                told.set_exception(fault)

        def on_ack(fault: KafkaFault | None) -> None:
            loop.call_soon_threadsafe(settle, fault)

        value, key = self._codec.encode(event, topic=STATUS), str(event.message_id)
        self._producer.publish(STATUS, key=key, value=value, on_ack=on_ack)
        await told


async def _ask(connection: AsyncConnection, doubt: _Doubt) -> None:
    """One wish for each doubt, however many people have it."""
    answers = await ask(connection, doubt.tenant, {doubt.message_id: doubt.nonce})
    answer = answers[doubt.message_id]
    if answer not in {Answer.QUEUED, Answer.KNOWN}:
        raise NotUnknownError(REFUSALS[answer])


async def _nothing_attempted(
    connection: AsyncConnection, tenant: str, message_id: UUID
) -> Exception:
    cursor = await connection.execute(_IS_KNOWN, {"id": message_id, "tenant": tenant})
    if await cursor.fetchone() == (True,):
        return NotUnknownError("No call of it is on record")
    return NoSuchMessageError()
