"""The receipt desk beside its endpoint: what it makes of a provider's words, and of our errors."""

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


class Kept:
    """Publishes nowhere, and keeps a record; `problem` is raised in its place."""

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
    made = create_pool(database_url, size=2, name="test")
    await made.open()
    yield made
    await made.close()


async def attempted(pool: AsyncConnectionPool, *tickets: str) -> UUID:
    """A message with an attempt for each of these, which the provider answered with it."""
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


async def test_what_is_handed_on_is_sent_by_the_attempt_that_is_spoken_of(
    pool: AsyncConnectionPool,
) -> None:
    producer = Kept()
    tell = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    message_id = await attempted(pool, "t-1", "t-2")
    await tell([handed_on(message_id), handed_on(new_message_id())])  # of the other nobody knows
    await tell([handed_on(message_id)])
    one, again = producer.events
    assert (one.status, one.reason, one.attempt) == (Status.SENT, Reason.ACCEPTED, 1)
    assert (one.message_id, one.tenant, one.provider) == (message_id, "acme", "expo")
    assert one.id == again.id


async def test_what_is_handed_on_is_another_event_than_a_receipt(
    pool: AsyncConnectionPool,
) -> None:
    producer = Kept()
    tell = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    word = handed_on(await attempted(pool, "t-1"))
    failed = Receipt(
        message_id=word.message_id,
        delivered=False,
        occurred_at=word.occurred_at,
        response=word.response,
    )
    await tell([word, failed])
    assert len({event.id for event in producer.events}) == 2


async def test_without_a_broker_it_must_be_said_again(pool: AsyncConnectionPool) -> None:
    producer = Kept()
    tell = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    word = handed_on(await attempted(pool, "t-1"))
    producer.problem = KafkaUnavailableError("the producer's buffer is full")
    with pytest.raises(ReceiptNotStoredError, match="buffer is full"):
        await tell([word])


async def test_a_defect_is_for_whoever_told_it_and_the_next_is_taken(
    pool: AsyncConnectionPool,
) -> None:
    producer = Kept()
    tell = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    word = handed_on(await attempted(pool, "t-1"))
    producer.problem = ZeroDivisionError("a mistake of ours")
    with pytest.raises(ZeroDivisionError):
        await tell([word])
    producer.problem = None
    await tell([word])
    assert [event.message_id for event in producer.events] == [word.message_id]
