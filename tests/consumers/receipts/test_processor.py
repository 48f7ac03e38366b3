"""The receipt processor without its endpoint: its events, and its errors."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import create_pool
from comms.platform.kafka import Ack, KafkaUnavailableError
from consumers.receipts.processor import ReceiptProcessor
from consumers.sdk.receipt_stream import ReceiptNotStoredError
from consumers.sdk.receipts import HandedToCarrier, Receipt
from schemas.codec import Codec
from schemas.events import ProviderResponse, StatusEvent
from schemas.ids import new_message_id
from schemas.vocabulary import Channel, Reason, Status


class RecordingPublisher:
    """Keeps the events and publishes nothing; raises `problem` instead if it is set."""

    def __init__(self) -> None:
        self.events: list[StatusEvent] = []
        self.problem: Exception | None = None

    def publish(self, topic: str, *, key: str, value: bytes, on_ack: Ack) -> None:
        del topic, key
        if self.problem is not None:
            raise self.problem
        self.events.append(Codec().decode(value, StatusEvent))
        on_ack(None)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=2, name="test")
    await opened.open()
    yield opened
    await opened.close()


async def insert_attempts(pool: AsyncConnectionPool, *tickets: str) -> UUID:
    """Insert a message with an attempt for each ticket, which the provider answered."""
    message_id = new_message_id()
    async with pool.connection() as connection:
        for number, ticket in enumerate(tickets, start=1):
            await connection.execute(
                "INSERT INTO consumers.attempt (message_id, attempt, tenant, channel, provider,"
                " owner, claimed_at) VALUES (%s, %s, 'acme', 'push', 'expo', %s, now())",
                (message_id, number, uuid4()),
            )
            await connection.execute(
                "INSERT INTO consumers.outcome (message_id, attempt, status, reason,"
                " provider_message_id, occurred_at) VALUES (%s, %s, 'sent', 'accepted', %s, now())",
                (message_id, number, ticket),
            )
    return message_id


def handed_on(message_id: UUID, ticket: str = "t-1") -> HandedToCarrier:
    response = ProviderResponse(provider_message_id=ticket)
    return HandedToCarrier(message_id=message_id, occurred_at=datetime.now(UTC), response=response)


async def test_a_message_handed_to_a_carrier_stays_sent(
    pool: AsyncConnectionPool,
) -> None:
    producer = RecordingPublisher()
    store = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    message_id = await insert_attempts(pool, "t-1", "t-2")
    await store([handed_on(message_id), handed_on(new_message_id())])  # the other is unknown
    await store([handed_on(message_id)])
    event, repeated = producer.events
    assert (event.status, event.reason, event.attempt) == (Status.SENT, Reason.ACCEPTED, 1)
    assert (event.message_id, event.tenant, event.provider) == (message_id, "acme", "expo")
    assert event.id == repeated.id


async def test_handing_to_a_carrier_is_another_event_than_a_receipt(
    pool: AsyncConnectionPool,
) -> None:
    producer = RecordingPublisher()
    store = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    receipt = handed_on(await insert_attempts(pool, "t-1"))
    failed = Receipt(
        message_id=receipt.message_id,
        delivered=False,
        occurred_at=receipt.occurred_at,
        response=receipt.response,
    )
    await store([receipt, failed])
    assert len({event.id for event in producer.events}) == 2


async def test_without_a_broker_the_receipt_is_not_stored(pool: AsyncConnectionPool) -> None:
    producer = RecordingPublisher()
    store = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    receipt = handed_on(await insert_attempts(pool, "t-1"))
    producer.problem = KafkaUnavailableError("the producer's buffer is full")
    with pytest.raises(ReceiptNotStoredError, match="buffer is full"):
        await store([receipt])


async def test_a_defect_is_raised_to_its_caller_and_the_next_receipt_is_processed(
    pool: AsyncConnectionPool,
) -> None:
    producer = RecordingPublisher()
    store = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    receipt = handed_on(await insert_attempts(pool, "t-1"))
    producer.problem = ZeroDivisionError("a mistake of ours")
    with pytest.raises(ZeroDivisionError):
        await store([receipt])
    producer.problem = None
    await store([receipt])
    assert [event.message_id for event in producer.events] == [receipt.message_id]
