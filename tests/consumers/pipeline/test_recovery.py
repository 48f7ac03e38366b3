"""Recovery: what a crash left half done is rows in the ledger alone."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import create_pool
from comms.platform.kafka import Broker, EventProducer
from consumers.ledger.delivery import Delivery, Offset
from consumers.ledger.store import Claim, Ledger, Settlement
from consumers.ledger.unpublished import Progress, UnpublishedEvents, Window
from consumers.pipeline.decoding import Decoder
from consumers.pipeline.recovery import Recovery, _missing_after
from consumers.status.publisher import StatusPublisher
from schemas.codec import Codec
from schemas.events import ProviderResponse, StatusEvent, accepted, receipt
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.harness import listener, sms

CODEC, OWNER = Codec(), uuid4()
WINDOW = Window(oldest=3600, newest=60)
RESPONSE = ProviderResponse(provider_message_id="sim-1")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=2, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def ledger(pool: AsyncConnectionPool) -> Ledger:
    return Ledger(pool, channel=Channel.SMS, owner=OWNER)


@pytest.fixture
def unpublished(pool: AsyncConnectionPool) -> UnpublishedEvents:
    return UnpublishedEvents(pool, channel=Channel.SMS)


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(database_url, autocommit=True) as session:
        record_audit_progress(session)
        yield session


def record_audit_progress(
    database: psycopg.Connection[tuple[object, ...]], *, minutes_ago: int = 0
) -> None:
    """Record that the audit service has recorded everything until then."""
    database.execute(
        "INSERT INTO audit.consumer_offset (topic, partition, next_offset, witness, caught_up_at)"
        " VALUES ('comms.status', 0, 1, 0, now() - make_interval(mins => %s))"
        " ON CONFLICT (topic, partition) DO UPDATE SET caught_up_at = excluded.caught_up_at",
        (minutes_ago,),
    )


def delivery_of(message: SmsMessage) -> Delivery:
    value = CODEC.encode(message, topic="comms.sms")
    return Delivery(message, value, Offset(("comms.sms", 0), 0, 1))


async def make_old_claim(
    ledger: Ledger, database: psycopg.Connection[tuple[object, ...]]
) -> Delivery:
    """Claim a message two minutes ago, without an outcome."""
    delivery = delivery_of(sms())
    await ledger.claim([Claim(delivery=delivery, attempt=1, provider="simulated")])
    database.execute("UPDATE consumers.attempt SET claimed_at = now() - interval '2 min'")
    return delivery


def settlement(delivery: Delivery, at: datetime) -> Settlement:
    return Settlement(
        delivery=delivery,
        attempt=1,
        status=Status.SENT,
        reason=Reason.ACCEPTED,
        response=RESPONSE,
        occurred_at=at,
    )


async def requeue(ledger: Ledger) -> int:
    return await ledger.requeue_abandoned_claims(
        claimed_within=3600, older_than=25, running_owner_seconds=900
    )


async def test_a_claim_without_an_outcome_is_queued_with_its_content(
    ledger: Ledger, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    delivery = await make_old_claim(ledger, database)
    assert await requeue(ledger) == 1
    [(lease, value)] = await ledger.lease_due(10)
    assert lease.message_id == delivery.message.id
    assert value == delivery.value
    assert await requeue(ledger) == 0


async def test_a_claim_that_may_still_be_running_is_not_queued(ledger: Ledger) -> None:
    await ledger.claim([Claim(delivery=delivery_of(sms()), attempt=1, provider="simulated")])
    assert await requeue(ledger) == 0


async def test_claims_of_a_running_process_are_left_to_it_for_15_minutes(
    ledger: Ledger, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    await make_old_claim(ledger, database)
    database.execute(
        "INSERT INTO consumers.worker (owner, channel, in_flight, lag_messages, lag_seconds,"
        " providers) VALUES (%s, 'sms', 1, 0, 0, '[]')",
        (OWNER,),
    )
    assert await requeue(ledger) == 0
    database.execute("UPDATE consumers.attempt SET claimed_at = now() - interval '16 min'")
    assert await requeue(ledger) == 1


async def test_a_settled_claim_is_not_queued(
    ledger: Ledger, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    delivery = await make_old_claim(ledger, database)
    await ledger.settle([settlement(delivery, datetime.now(UTC))])
    assert await requeue(ledger) == 0


async def test_an_outcome_whose_event_was_lost_is_published(
    ledger: Ledger,
    unpublished: UnpublishedEvents,
    database: psycopg.Connection[tuple[object, ...]],
    broker: Broker,
) -> None:
    at = datetime.now(UTC) - timedelta(minutes=2)
    delivery = await make_old_claim(ledger, database)
    await ledger.settle([settlement(delivery, at)])
    producer = broker.producer()
    publisher = StatusPublisher(producer, CODEC, asyncio.get_running_loop())
    recovery = Recovery(ledger, unpublished, Decoder(Channel.SMS, CODEC), publisher, doubt_after=25)
    await recovery.recover()
    with listener(broker) as status_topic:
        event = await asyncio.to_thread(status_topic.wait_for, delivery.message.id, Status.SENT)
    expected = accepted(delivery.message, attempt=1, provider="simulated", at=at, response=RESPONSE)
    assert replace(event, created_at=expected.created_at) == expected
    producer.close()


async def test_an_outcome_that_is_recorded_is_not_published_again(
    ledger: Ledger, unpublished: UnpublishedEvents, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    at = datetime.now(UTC) - timedelta(minutes=2)
    delivery = await make_old_claim(ledger, database)
    await ledger.settle([settlement(delivery, at)])
    rows = await unpublished.outcomes(WINDOW, limit=10)
    assert [message_id for message_id, _, _ in rows] == [delivery.message.id]
    database.execute(
        "INSERT INTO audit.history (message_id, id, tenant, channel, status, reason, attempt,"
        " occurred_at) VALUES (%s, gen_random_uuid(), 'acme', 'sms', 'sent', 'accepted', 1, now())",
        (delivery.message.id,),
    )
    assert await unpublished.outcomes(WINDOW, limit=10) == []


async def test_a_receipt_whose_event_was_lost_is_published_again(
    ledger: Ledger,
    unpublished: UnpublishedEvents,
    database: psycopg.Connection[tuple[object, ...]],
    broker: Broker,
) -> None:
    message = sms()
    event = receipt(
        message_id=message.id,
        tenant=message.tenant,
        channel=Channel.SMS,
        provider="simulated",
        attempt=1,
        delivered=True,
        at=datetime.now(UTC),
        response=RESPONSE,
    )
    database.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value, taken_at)"
        " VALUES (%s, %s, 'sms', %s, now() - interval '2 min')",
        (message.id, event.id, CODEC.encode(event, topic="comms.status")),
    )
    producer = broker.producer()
    publisher = StatusPublisher(producer, CODEC, asyncio.get_running_loop())
    await Recovery(
        ledger, unpublished, Decoder(Channel.SMS, CODEC), publisher, doubt_after=25
    ).recover()
    with listener(broker) as status_topic:
        assert await asyncio.to_thread(status_topic.wait_for, message.id, Status.DELIVERED) == event
    producer.close()


async def test_a_claim_that_repeats_a_call_records_the_doubt(
    ledger: Ledger, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    delivery = await make_old_claim(ledger, database)
    again = Claim(delivery=delivery, attempt=2, provider="simulated", repeats_doubt=True)
    assert delivery.message.id in await ledger.claim([again])
    rows = database.execute(
        "SELECT attempt, status, reason FROM consumers.outcome WHERE message_id = %s",
        (delivery.message.id,),
    ).fetchall()
    assert rows == [(1, "sending", "ambiguous")]
    entries = await ledger.look_up([delivery])
    assert entries[delivery.message.id].newest.in_doubt_with == "simulated"


async def test_finishing_an_old_lease_keeps_a_newer_lease(
    ledger: Ledger, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    delivery = delivery_of(sms())
    await ledger.defer([(delivery, 0.0)])
    [(first, _)] = await ledger.lease_due(10)
    await ledger.defer([(delivery, 0.0)])  # to be tried again, and its time has come
    [(second, _)] = await ledger.lease_due(10)
    await ledger.finish([first])
    database.execute(
        "UPDATE consumers.deferred SET leased_until = now()"
    )  # the second process died
    [(third, _)] = await ledger.lease_due(10)
    await ledger.finish([second])
    assert database.execute("SELECT count(*) FROM consumers.deferred").fetchone() == (1,)
    await ledger.finish([third])
    assert database.execute("SELECT count(*) FROM consumers.deferred").fetchone() == (0,)


async def test_nothing_is_published_again_while_the_audit_service_is_down(
    ledger: Ledger,
    unpublished: UnpublishedEvents,
    database: psycopg.Connection[tuple[object, ...]],
    broker: Broker,
) -> None:
    delivery, at = await make_old_claim(ledger, database), datetime.now(UTC) - timedelta(minutes=2)
    await ledger.settle([settlement(delivery, at)])
    record_audit_progress(database, minutes_ago=5)
    producer = broker.producer()
    publisher = StatusPublisher(producer, CODEC, asyncio.get_running_loop())
    recovery = Recovery(ledger, unpublished, Decoder(Channel.SMS, CODEC), publisher, doubt_after=25)
    await recovery.recover()
    assert producer.poll() == 0
    record_audit_progress(database)
    await recovery.recover()
    with listener(broker) as status_topic:
        await asyncio.to_thread(status_topic.wait_for, delivery.message.id, Status.SENT)
    producer.close()


class RecordingPublisher(StatusPublisher):
    """Publishes, and keeps the ids of the messages."""

    def __init__(self, producer: EventProducer) -> None:
        super().__init__(producer, CODEC, asyncio.get_running_loop())
        self.published: list[UUID] = []

    def publish(self, event: StatusEvent, done: Any = None) -> None:
        self.published.append(event.message_id)
        super().publish(event, done)


async def make_settled(ledger: Ledger, *, seconds_ago: float) -> UUID:
    """Settle an attempt so many seconds ago, whose event is lost; return the message's id."""
    delivery = delivery_of(sms())
    await ledger.claim([Claim(delivery=delivery, attempt=1, provider="simulated")])
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    await ledger.settle([settlement(delivery, at)])
    return delivery.message.id


async def test_a_row_that_was_written_late_is_found_within_a_minute(
    ledger: Ledger,
    unpublished: UnpublishedEvents,
    database: psycopg.Connection[tuple[object, ...]],
    broker: Broker,
) -> None:
    now = 1_000_000.0
    producer = broker.producer()
    publisher = RecordingPublisher(producer)
    recovery = Recovery(
        ledger,
        unpublished,
        Decoder(Channel.SMS, CODEC),
        publisher,
        doubt_after=25,
        monotonic=lambda: now,
    )
    await recovery.recover()  # everything until now is in order
    late = await make_settled(ledger, seconds_ago=100)
    record_audit_progress(database)
    now += 10
    await recovery.recover()
    assert publisher.published == []
    on_time = await make_settled(ledger, seconds_ago=10)
    await recovery.recover()
    assert publisher.published == [on_time]
    now += 50
    await recovery.recover()
    assert set(publisher.published) == {late, on_time}
    producer.close()


async def test_all_pages_of_candidates_are_read_up_to_a_limit(
    ledger: Ledger, unpublished: UnpublishedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.ledger.unpublished.PAGE", 2)
    lost = [await make_settled(ledger, seconds_ago=100 + n) for n in range(5)]
    rows = await unpublished.outcomes(WINDOW, limit=10)
    assert [message_id for message_id, _, _ in rows] == lost[::-1]  # oldest first
    assert len(await unpublished.outcomes(WINDOW, limit=3)) == 3


@pytest.mark.parametrize(
    ("recorded", "expected"), [(0.0, 5.0), (3.0, 5.0), (10.0, 12.0), (58.0, 60.0), (600.0, 60.0)]
)
def test_an_event_is_missing_after_a_minute_or_sooner_where_all_is_recorded(
    recorded: float, expected: float
) -> None:
    assert _missing_after(Progress(recorded=recorded, active=0.0)) == expected
