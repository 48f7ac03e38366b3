"""Settles an unknown message by what a person knows: the call was carried out, or it was not.

The API calls `Resolver.resolve`. The answer is a status event like that of a receipt. It is kept
beside the receipts, so that `consumers.pipeline.recovery` publishes it again if the broker loses
it, and it is published before the person is answered. The lifecycle decides between it and a
receipt that comes at the same moment. Two people exclude each other by a lock on the attempt in
question.
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
from comms.platform.database import translate_errors
from comms.platform.kafka import EventProducer, KafkaFault
from consumers.redrive.requests import REFUSALS, ResendAnswer, request_resends
from schemas import events
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.topics import STATUS
from schemas.vocabulary import Channel, Reason, Status


class Resolution(StrEnum):
    """How a person settles an unknown message."""

    SENT = "sent"
    FAILED = "failed"
    RESEND = "resend"


class NoSuchMessageError(Exception):
    """The tenant has no message of that id."""


class NotUnknownError(Exception):
    """There is nothing to settle, or it cannot be settled so; the text says why."""


_LOCK_NEWEST = """
SELECT attempt, channel, provider FROM consumers.attempt
WHERE message_id = %s AND tenant = %s ORDER BY attempt DESC LIMIT 1 FOR UPDATE
"""
# In a statement of its own, for its fresh snapshot: it sees what the former holder of the lock did.
_ATTEMPT = """
SELECT (SELECT status FROM consumers.outcome WHERE message_id = %(id)s AND attempt = %(attempt)s),
    EXISTS (SELECT FROM consumers.deferred WHERE message_id = %(id)s AND nonce = %(nonce)s),
    array(SELECT value FROM consumers.receipt WHERE message_id = %(id)s)
"""
_KEEP = (
    "INSERT INTO consumers.receipt (message_id, event_id, channel, value) VALUES (%s, %s, %s, %s)"
)
_IS_ACCEPTED = """
SELECT EXISTS (SELECT FROM producer.accepted_message WHERE id = %s AND tenant = %s)
"""
_IS_RECORDED = """
SELECT EXISTS (SELECT FROM audit.recorded_message WHERE message_id = %s AND tenant = %s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _DoubtfulAttempt:
    """The attempt in question, and what is known of it.

    Args:
        status: what the ledger has as its outcome.
        events: receipts, and what people resolved.
        is_being_resent: a person settled it by a resend.
        nonce: of the resend request that settles it.
        resolved_by: the name of the caller's API key.
    """

    message_id: UUID
    tenant: str
    attempt: int
    channel: Channel
    provider: str
    status: Status | None
    events: Sequence[StatusEvent]
    is_being_resent: bool
    nonce: UUID
    resolved_by: str

    def resolution_event(self) -> StatusEvent | None:
        """Return the event of a person who settled this attempt before."""
        return next((e for e in self._later_events() if e.reason is Reason.RESOLVED), None)

    def check(self, resolution: Resolution) -> None:
        """Check that it may be settled so.

        Raises:
            NotUnknownError: it may not; the text says why.
        """
        if self.status is not Status.UNKNOWN:
            raise NotUnknownError(f"The message is {self.status or Status.SENDING}, not unknown")
        before = self.resolution_event()
        if any(event is not before for event in self._later_events()):
            raise NotUnknownError("A receipt has settled it")
        if before is not None and before.status.value != resolution.value:
            raise NotUnknownError(f"Another caller has settled it as {before.status}")
        if self.is_being_resent and resolution is not Resolution.RESEND:
            raise NotUnknownError("Another caller is having it sent again")

    def to_event(self, *, is_sent: bool, clock: Clock) -> StatusEvent:
        """Return the event that settles it."""
        return events.resolved(
            message_id=self.message_id,
            tenant=self.tenant,
            channel=self.channel,
            provider=self.provider,
            attempt=self.attempt,
            sent=is_sent,
            at=clock(),
            by=self.resolved_by,
        )

    def _later_events(self) -> list[StatusEvent]:
        """Return the events that settle this attempt: its own, later ones, and any delivery."""
        return [e for e in self.events if e.attempt >= self.attempt or e.status is Status.DELIVERED]


class Resolver:
    """Settles unknown messages, for the application."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        producer: EventProducer,
        codec: Codec,
        clock: Clock = utc_now,
    ) -> None:
        self._pool = pool
        self._producer = producer
        self._codec = codec
        self._clock = clock

    async def resolve(self, caller: Caller, message_id: UUID, resolution: Resolution) -> Status:
        """Settle an unknown message. The same resolution again changes nothing.

        Returns:
            The status of the message now.

        Raises:
            NoSuchMessageError, NotUnknownError: nothing was changed.
            DatabaseError: nothing was changed, as far as the database could report.
            KafkaFault: it is settled; its event is not published yet, and will be.
        """
        with translate_errors():
            async with self._pool.connection() as connection, connection.transaction():
                attempt = await self._lock(connection, caller, message_id)
                attempt.check(resolution)
                if resolution is Resolution.RESEND:
                    await _request_resend(connection, attempt)
                    return Status.SENDING
                is_sent = resolution is Resolution.SENT
                event = await self._keep(connection, attempt, is_sent=is_sent)
        await self._publish(event)
        return event.status

    async def _lock(
        self, connection: AsyncConnection, caller: Caller, message_id: UUID
    ) -> _DoubtfulAttempt:
        """Lock the message's newest attempt until the transaction ends."""
        cursor = await connection.execute(_LOCK_NEWEST, (message_id, caller.tenant))
        row = await cursor.fetchone()
        if row is None:
            raise await _no_attempt_error(connection, caller.tenant, message_id)
        attempt, channel, provider = row
        nonce = uuid5(message_id, f"resolved/{attempt}")
        values = {"id": message_id, "attempt": attempt, "nonce": nonce}
        scalars = await (await connection.execute(_ATTEMPT, values)).fetchone()
        assert scalars is not None  # noqa: S101 - a row of scalars
        status, is_being_resent, encoded_events = scalars
        return _DoubtfulAttempt(
            message_id=message_id,
            tenant=caller.tenant,
            attempt=attempt,
            channel=Channel(channel),
            provider=provider,
            status=None if status is None else Status(status),
            events=[self._codec.decode(bytes(value), StatusEvent) for value in encoded_events],
            is_being_resent=is_being_resent,
            nonce=nonce,
            resolved_by=caller.key_name,
        )

    async def _keep(
        self, connection: AsyncConnection, attempt: _DoubtfulAttempt, *, is_sent: bool
    ) -> StatusEvent:
        """Keep the event that settles the attempt; return the former one if there is one."""
        before = attempt.resolution_event()
        if before is not None:
            return before
        event = attempt.to_event(is_sent=is_sent, clock=self._clock)
        value = self._codec.encode(event, topic=STATUS)
        await connection.execute(_KEEP, (event.message_id, event.id, event.channel.value, value))
        return event

    async def _publish(self, event: StatusEvent) -> None:
        """Publish an event and wait until the broker has it."""
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()

        def settle(fault: KafkaFault | None) -> None:
            if acknowledged.done():  # the caller has disconnected
                return
            if fault is None:
                acknowledged.set_result(None)
            else:
                acknowledged.set_exception(fault)

        def on_ack(fault: KafkaFault | None) -> None:
            loop.call_soon_threadsafe(settle, fault)

        value, key = self._codec.encode(event, topic=STATUS), str(event.message_id)
        self._producer.publish(STATUS, key=key, value=value, on_ack=on_ack)
        await acknowledged


async def _request_resend(connection: AsyncConnection, attempt: _DoubtfulAttempt) -> None:
    """Request one resend for each doubtful attempt, however many people resolve it so."""
    nonces = {attempt.message_id: attempt.nonce}
    answers = await request_resends(connection, attempt.tenant, nonces)
    answer = answers[attempt.message_id]
    if answer not in {ResendAnswer.QUEUED, ResendAnswer.KNOWN}:
        raise NotUnknownError(REFUSALS[answer])


async def _no_attempt_error(
    connection: AsyncConnection, tenant: str, message_id: UUID
) -> NoSuchMessageError | NotUnknownError:
    """Return the error for a message of which the ledger has no attempt."""
    for query in (_IS_ACCEPTED, _IS_RECORDED):
        cursor = await connection.execute(query, (message_id, tenant))
        if await cursor.fetchone() == (True,):
            return NotUnknownError("The ledger has no call of the message")
    return NoSuchMessageError()
