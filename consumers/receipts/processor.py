"""Processes receipts: what a provider reports about a message after it accepted the message.

Receipts come by webhook (`consumers.receipts.webhooks`), over the connection that the provider is
called by (`consumers.sdk.receipt_stream`), or by polling (`consumers.receipts.poller`). The
processor treats them alike. It looks up the attempt that a receipt is about, stores the event in
the ledger, publishes it on `comms.status`, and returns once the broker has it. Receipts that come
together share the statements and one wait for the broker. An event that the broker loses is found
in the ledger by `consumers.pipeline.recovery`.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseError, translate_errors
from comms.platform.kafka import Ack, KafkaFault
from consumers.receipts.batching import BatchAcks, ReceiptSource, Submission
from consumers.receipts.inbound import AttemptLookup
from consumers.sdk.receipt_stream import ReceiptNotStoredError, StoreReceipts
from consumers.sdk.receipts import HandedToCarrier, Receipt, ReceiptEvent
from consumers.suppression.store import SuppressionList
from schemas import events
from schemas.codec import Codec
from schemas.errors import ContractError
from schemas.events import StatusEvent
from schemas.topics import STATUS
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

MAX_WAITING = 20_000  # receipts; with more than that, the answer is 503 at once
MAX_BATCH = 1_000

# Only attempts made through the provider that sends the receipt: others are not its to judge.
_LOOK_UP = """
SELECT message_id, channel, provider, tenant, attempt, o.provider_message_id,
    o.status IS NULL OR o.reason = 'ambiguous'
FROM consumers.attempt
LEFT JOIN consumers.outcome o USING (message_id, attempt)
WHERE message_id = ANY(%(ids)s) AND (channel, provider) IN
      (SELECT * FROM unnest(%(channels)s::text[], %(providers)s::text[]))
ORDER BY attempt DESC
"""

# A repeated receipt has the same event id.
_STORE = """
INSERT INTO consumers.receipt (message_id, event_id, channel, value)
SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::text[], %b::bytea[])
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt in the ledger; `is_in_doubt` while its answer is not known."""

    tenant: str
    number: int
    provider_message_id: str | None
    is_in_doubt: bool


_Attempts = Mapping[tuple[UUID, ReceiptSource], Sequence[_Attempt]]  # the newest first


@dataclass(frozen=True, slots=True)
class _EncodedReceipt:
    """The event made of a receipt, as it will be published, and the submission it belongs to."""

    submission: Submission
    event: StatusEvent
    value: bytes


class Publisher(Protocol):
    """Publishes as `comms.platform.kafka.EventProducer` does, without being polled."""

    def publish(self, topic: str, *, key: str, value: bytes, on_ack: Ack) -> None:
        """Hand a record over. `on_ack` is called later, on any thread.

        Raises:
            KafkaFault: the record is not accepted now, or never will be.
        """


class ReceiptProcessor:
    """Processes receipts, those that come at the same time together.

    Belongs to one event loop.
    """

    def __init__(self, pool: AsyncConnectionPool, producer: Publisher, codec: Codec) -> None:
        self._pool = pool
        self._producer = producer
        self._codec = codec
        self._suppression_list = SuppressionList(pool)
        self._attempt_lookup = AttemptLookup(pool)
        self._queue: deque[Submission] = deque()
        self._queued_receipts = 0
        self._worker: asyncio.Task[None] | None = None

    async def process(
        self, channel: Channel, provider: str, receipts: Sequence[ReceiptEvent]
    ) -> None:
        """Process what a provider sent; return when the broker has all of it.

        Texts that people wrote are acted on, and nothing is published about them.

        Raises:
            ReceiptNotStoredError: the broker does not have it, and the provider must repeat it.
        """
        if self._queued_receipts > MAX_WAITING:
            raise ReceiptNotStoredError("too many receipts are waiting")
        source = ReceiptSource(channel, provider)
        try:
            matched = await self._attempt_lookup.match(channel, provider, receipts)
            handed_on = [receipt for receipt in receipts if isinstance(receipt, HandedToCarrier)]
            await self._enqueue(source, [*matched, *handed_on])
        except (DatabaseError, KafkaFault) as error:
            raise ReceiptNotStoredError(str(error)) from error

    def for_provider(self, channel: Channel, provider: str) -> StoreReceipts:
        """Return `process` for the receipts of one provider."""
        return partial(self.process, channel, provider)

    def _enqueue(
        self, source: ReceiptSource, receipts: list[Receipt | HandedToCarrier]
    ) -> asyncio.Future[None]:
        """Hand receipts to the worker; the future ends when they are published, or fail."""
        done = asyncio.get_running_loop().create_future()
        self._queue.append(Submission(source, receipts, done))
        self._queued_receipts += len(receipts)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return done

    async def _work(self) -> None:
        """Process batch after batch until nothing is queued."""
        try:
            while self._queue:
                await self._process_batch(self._next_batch())
        finally:
            self._worker = None

    async def _process_batch(self, batch: list[Submission]) -> None:
        try:
            await self._store_and_publish(batch)
        except Exception as error:  # a defect goes to the callers: they must not wait for ever
            for submission in batch:
                submission.problem = error
        for submission in batch:
            submission.resolve()

    def _next_batch(self) -> list[Submission]:
        batch, size = [], 0
        while self._queue and size < MAX_BATCH:
            submission = self._queue.popleft()
            batch.append(submission)
            size += len(submission.receipts)
        self._queued_receipts -= size
        return batch

    async def _store_and_publish(self, batch: list[Submission]) -> None:
        try:
            attempts = await self._look_up(batch)
            await self._suppress(batch, attempts)
            encoded = self._encode(batch, attempts)
            await self._store(encoded)
        except DatabaseError as error:
            for submission in batch:
                submission.problem = error
                submission.source.count("unavailable")
        else:
            await self._publish(encoded)

    async def _suppress(self, batch: list[Submission], attempts: _Attempts) -> None:
        """Put recipients on the suppression list, where a receipt says so."""
        additions = [
            (receipt.message_id, receipt.suppress)
            for submission in batch
            for receipt in submission.receipts
            if isinstance(receipt, Receipt)
            and receipt.suppress
            and (receipt.message_id, submission.source) in attempts
        ]
        if additions:
            await self._suppression_list.add_from_receipts(additions)

    def _encode(self, batch: list[Submission], attempts: _Attempts) -> list[_EncodedReceipt]:
        encoded = []
        for submission in batch:
            for receipt in submission.receipts:
                of_message = attempts.get((receipt.message_id, submission.source))
                if of_message is None:
                    submission.source.count("unknown")
                    continue
                event = _build_event(receipt, submission.source, of_message)
                try:
                    value = self._codec.encode(event, topic=STATUS)
                except ContractError:
                    # It cannot be encoded the next time either: count it, and tell the operator.
                    log.exception("receipt.not_encodable", message_id=str(event.message_id))
                    submission.source.count("unreadable")
                else:
                    encoded.append(_EncodedReceipt(submission, event, value))
        return encoded

    async def _store(self, encoded: list[_EncodedReceipt]) -> None:
        if not encoded:
            return
        columns = (
            [receipt.event.message_id for receipt in encoded],
            [receipt.event.id for receipt in encoded],
            [str(receipt.event.channel) for receipt in encoded],
            [receipt.value for receipt in encoded],
        )
        with translate_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_STORE, columns)

    async def _publish(self, encoded: list[_EncodedReceipt]) -> None:
        acks = BatchAcks()
        for receipt in encoded:
            on_ack = acks.expect(receipt.submission, receipt.event.status)
            key = str(receipt.event.message_id)
            try:
                self._producer.publish(STATUS, key=key, value=receipt.value, on_ack=on_ack)
            except KafkaFault as fault:
                on_ack(fault)
        await acks.wait()

    async def _look_up(self, batch: list[Submission]) -> _Attempts:
        sources = {submission.source for submission in batch}
        values = {
            "ids": list({r.message_id for submission in batch for r in submission.receipts}),
            "channels": [str(source.channel) for source in sources],
            "providers": [source.provider for source in sources],
        }
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_LOOK_UP, values)
                rows = await cursor.fetchall()
        attempts: dict[tuple[UUID, ReceiptSource], list[_Attempt]] = {}
        for message_id, channel, provider, *columns in rows:
            source = ReceiptSource(Channel(channel), provider)
            attempts.setdefault((message_id, source), []).append(_Attempt(*columns))
        return attempts


def _select_attempt(receipt: Receipt | HandedToCarrier, attempts: Sequence[_Attempt]) -> _Attempt:
    """Select the attempt that a receipt is about.

    That is the attempt that the provider answered with the same id, else the newest whose answer is
    not known, else the newest. A late receipt for a first attempt says nothing about a second.
    """
    provider_id = receipt.response.provider_message_id
    with_same_id = (
        a for a in attempts if provider_id is not None and a.provider_message_id == provider_id
    )
    in_doubt = (a for a in attempts if a.is_in_doubt)
    return next(with_same_id, None) or next(in_doubt, None) or attempts[0]


def _build_event(
    receipt: Receipt | HandedToCarrier, source: ReceiptSource, attempts: Sequence[_Attempt]
) -> StatusEvent:
    attempt = _select_attempt(receipt, attempts)
    if isinstance(receipt, HandedToCarrier):
        return events.handed_to_carrier(
            message_id=receipt.message_id,
            tenant=attempt.tenant,
            channel=source.channel,
            provider=source.provider,
            attempt=attempt.number,
            at=receipt.occurred_at,
            response=receipt.response,
        )
    return events.receipt(
        message_id=receipt.message_id,
        tenant=attempt.tenant,
        channel=source.channel,
        provider=source.provider,
        attempt=attempt.number,
        delivered=receipt.delivered,
        at=receipt.occurred_at,
        response=receipt.response,
        reason=receipt.reason,
    )
