"""The receipt desk: a provider's later word, kept and announced on `comms.status`.

It is the same however the word came: by webhook (`consumers.receipts.webhooks`), over the
connection that a provider is called by (`consumers.sdk.receipt_stream`), or as the answer to a
question (`consumers.receipts.poller`). It finds whose message is spoken of in the ledger of
attempts, keeps the event there, publishes it, and returns once the broker has it. What comes
together shares the statements and one wait for the broker. An event that the broker loses is found
in the ledger by `consumers.pipeline.recovery`.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol
from uuid import UUID

import structlog
from prometheus_client import Counter
from psycopg_pool import AsyncConnectionPool

from comms.platform import metrics
from comms.platform.database import DatabaseError, translated
from comms.platform.kafka import Ack, KafkaFault
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

MOST_WAITING = 20_000  # receipts; more than that is answered 503 at once
MOST_AT_ONCE = 1_000

# The attempts made through the provider that speaks: another's messages are not its to judge.
_LOOK_UP = """
SELECT message_id, channel, provider, tenant, attempt, o.provider_message_id,
    o.status IS NULL OR o.reason = 'ambiguous'
FROM consumers.attempt
LEFT JOIN consumers.outcome o USING (message_id, attempt)
WHERE message_id = ANY(%(ids)s) AND (channel, provider) IN
      (SELECT * FROM unnest(%(channels)s::text[], %(providers)s::text[]))
ORDER BY attempt DESC
"""

# A provider that repeats itself says the same event.
_KEEP = """
INSERT INTO consumers.receipt (message_id, event_id, channel, value)
SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::text[], %b::bytea[])
ON CONFLICT DO NOTHING
"""


@cache  # finding a counter by its labels costs more than the rest of counting
def _counter(channel: Channel, provider: str, result: str) -> Counter:
    return metrics.receipts_total.labels(channel.value, provider, result)


@dataclass(frozen=True, slots=True)
class ReceiptSource:
    """Who speaks."""

    channel: Channel
    provider: str

    def count(self, result: str) -> None:
        _counter(self.channel, self.provider, result).inc()


@dataclass(frozen=True, slots=True)
class _Attempted:
    """What the ledger knows of a message; `in_doubt` while nothing is known of its answer."""

    tenant: str
    attempt: int
    provider_message_id: str | None
    in_doubt: bool


_Known = Mapping[tuple[UUID, ReceiptSource], Sequence[_Attempted]]  # the newest first


@dataclass(frozen=True, slots=True)
class _Said:
    """An event made of a receipt, as it will be published, and whose request brought it."""

    asked: "_Asked"
    event: StatusEvent
    value: bytes


@dataclass(slots=True, eq=False)
class _Asked:
    """One request's receipts, and who waits for them to be announced."""

    source: ReceiptSource
    receipts: list[Receipt | HandedToCarrier]
    done: asyncio.Future[None]
    problem: Exception | None = None

    def settle(self) -> None:
        if self.done.done():  # whoever asked has gone
            return
        if self.problem is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(self.problem)


class _Acks:
    """Waits for a batch of acknowledgements with one hand-over from the broker's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._open = 1  # one for the batch itself, until `wait`
        self._all = asyncio.Event()

    def expect(self, asked: _Asked, result: str) -> Ack:
        """What to call, from any thread, when one more record's fate is known."""
        with self._lock:
            self._open += 1

        def on_ack(fault: KafkaFault | None) -> None:
            if fault is not None:
                asked.problem = fault
            asked.source.count(result if fault is None else "unavailable")
            self._one_less()

        return on_ack

    async def wait(self) -> None:
        """Until every record's fate is known; the producer bounds the time that takes."""
        self._one_less()
        await self._all.wait()

    def _one_less(self) -> None:
        with self._lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self._loop.call_soon_threadsafe(self._all.set)


class Publisher(Protocol):
    """Publishes as `comms.platform.kafka.EventProducer` does, and reports without being asked."""

    def publish(self, topic: str, *, key: str, value: bytes, on_ack: Ack) -> None:
        """Hand a record over; `on_ack` follows, on any thread.

        Raises:
            KafkaFault: it is not acceptable now, or ever.
        """


class ReceiptProcessor:
    """Announces receipts, those told at the same time together. Belongs to one event loop."""

    def __init__(self, pool: AsyncConnectionPool, producer: Publisher, codec: Codec) -> None:
        self._pool, self._producer, self._codec = pool, producer, codec
        self._suppressed, self._correspondence = SuppressionList(pool), AttemptLookup(pool)
        self._waiting: deque[_Asked] = deque()
        self._held = 0
        self._worker: asyncio.Task[None] | None = None

    async def announce(self, channel: Channel, provider: str, said: Sequence[ReceiptEvent]) -> None:
        """Publish what a provider said; returns when the broker has it. What people wrote is acted
        on and goes no further.

        Raises:
            NotTakenError: it has not, and the provider must say it again.
        """
        if self._held > MOST_WAITING:
            raise ReceiptNotStoredError("too many receipts are waiting")
        source = ReceiptSource(channel, provider)
        try:
            receipts = await self._correspondence.sort_out(channel, provider, said)
            handed_on = [one for one in said if isinstance(one, HandedToCarrier)]
            await self._queued(source, [*receipts, *handed_on])
        except (DatabaseError, KafkaFault) as error:
            raise ReceiptNotStoredError(str(error)) from error

    def teller(self, channel: Channel, provider: str) -> StoreReceipts:
        """What takes the words of one provider."""
        return partial(self.announce, channel, provider)

    def _queued(
        self, source: ReceiptSource, receipts: list[Receipt | HandedToCarrier]
    ) -> asyncio.Future[None]:
        """Hand over to the worker; done when they are announced, with an error if they are not."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(source, receipts, done))
        self._held += len(receipts)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return done

    async def _work(self) -> None:
        """Take what waits, batch after batch, until nothing does."""
        try:
            while self._waiting:
                await self._served(self._next_batch())
        finally:
            self._worker = None

    async def _served(self, batch: list[_Asked]) -> None:
        try:
            await self._announce_all(batch)
        except Exception as error:  # a defect is for whoever asked: they must not wait for ever
            for asked in batch:
                asked.problem = error
        for asked in batch:
            asked.settle()

    def _next_batch(self) -> list[_Asked]:
        batch, size = [], 0
        while self._waiting and size < MOST_AT_ONCE:
            asked = self._waiting.popleft()
            batch.append(asked)
            size += len(asked.receipts)
        self._held -= size
        return batch

    async def _announce_all(self, batch: list[_Asked]) -> None:
        try:
            known = await self._look_up(batch)
            await self._suppress(batch, known)
            said = self._encoded(batch, known)
            await self._keep(said)
        except DatabaseError as error:
            for asked in batch:
                asked.problem = error
                asked.source.count("unavailable")
        else:
            await self._publish_all(said)

    async def _suppress(self, batch: list[_Asked], known: _Known) -> None:
        found = [
            (receipt.message_id, receipt.suppress)
            for asked in batch
            for receipt in asked.receipts
            if isinstance(receipt, Receipt)
            and receipt.suppress
            and (receipt.message_id, asked.source) in known
        ]
        if found:
            await self._suppressed.add_from_receipts(found)

    def _encoded(self, batch: list[_Asked], known: _Known) -> list[_Said]:
        said = []
        for asked in batch:
            for receipt in asked.receipts:
                found = known.get((receipt.message_id, asked.source))
                if found is None:
                    asked.source.count("unknown")
                    continue
                event = _event(receipt, asked.source, found)
                try:
                    value = self._codec.encode(event, topic=STATUS)
                except ContractError:
                    # As unwritable the next time: taken, counted, and told to the operator.
                    log.exception("receipt.not_encodable", message_id=str(event.message_id))
                    asked.source.count("unreadable")
                else:
                    said.append(_Said(asked, event, value))
        return said

    async def _keep(self, said: list[_Said]) -> None:
        if not said:
            return
        columns = (
            [one.event.message_id for one in said],
            [one.event.id for one in said],
            [str(one.event.channel) for one in said],
            [one.value for one in said],
        )
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(_KEEP, columns)

    async def _publish_all(self, said: list[_Said]) -> None:
        acks = _Acks()
        for one in said:
            on_ack, key = acks.expect(one.asked, one.event.status), str(one.event.message_id)
            try:
                self._producer.publish(STATUS, key=key, value=one.value, on_ack=on_ack)
            except KafkaFault as fault:
                on_ack(fault)
        await acks.wait()

    async def _look_up(self, batch: list[_Asked]) -> _Known:
        sources = {asked.source for asked in batch}
        values = {
            "ids": list({receipt.message_id for asked in batch for receipt in asked.receipts}),
            "channels": [str(source.channel) for source in sources],
            "providers": [source.provider for source in sources],
        }
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_LOOK_UP, values)
                rows = await cursor.fetchall()
        known: dict[tuple[UUID, ReceiptSource], list[_Attempted]] = {}
        for message_id, channel, provider, *attempted in rows:
            source = ReceiptSource(Channel(channel), provider)
            known.setdefault((message_id, source), []).append(_Attempted(*attempted))
        return known


def _spoken_of(receipt: Receipt | HandedToCarrier, attempts: Sequence[_Attempted]) -> _Attempted:
    """The attempt that the provider answered with the same id, else the newest whose answer is not
    known: a late word on a first attempt says nothing of a second."""
    said = receipt.response.provider_message_id
    answered = (a for a in attempts if said is not None and a.provider_message_id == said)
    in_doubt = (a for a in attempts if a.in_doubt)
    return next(answered, None) or next(in_doubt, None) or attempts[0]


def _event(
    receipt: Receipt | HandedToCarrier, source: ReceiptSource, attempts: Sequence[_Attempted]
) -> StatusEvent:
    found = _spoken_of(receipt, attempts)
    if isinstance(receipt, HandedToCarrier):
        return events.handed_to_carrier(
            message_id=receipt.message_id,
            tenant=found.tenant,
            channel=source.channel,
            provider=source.provider,
            attempt=found.attempt,
            at=receipt.occurred_at,
            response=receipt.response,
        )
    return events.receipt(
        message_id=receipt.message_id,
        tenant=found.tenant,
        channel=source.channel,
        provider=source.provider,
        attempt=found.attempt,
        delivered=receipt.delivered,
        at=receipt.occurred_at,
        response=receipt.response,
        reason=receipt.reason,
    )
