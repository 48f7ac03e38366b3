"""Receipts that never came are row in the ledger after the time allowed, and reported once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg_pool import AsyncConnectionPool

from audit import merge
from comms.platform.database import create_pool
from comms.platform.kafka import Broker, EventProducer
from comms.platform.settings import ProviderSettings
from consumers.receipts.timeouts import ReceiptTimeouts
from consumers.registry import providers_with_receipts
from consumers.status.publisher import StatusPublisher
from schemas import events
from schemas.events import NO_RESPONSE, StatusEvent
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.harness import CODEC, listener, sms

Session = merge.Connection


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=3, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def store(database_url: str) -> Iterator[Session]:
    """The audit store, as its service has it open."""
    with merge.connect(database_url) as session:
        yield session


@pytest.fixture
def producer(broker: Broker) -> Iterator[EventProducer]:
    opened = broker.producer()
    yield opened
    opened.close()


class RecordingPublisher(StatusPublisher):
    """Publishes, and keeps the events."""

    def __init__(self, producer: EventProducer) -> None:
        super().__init__(producer, CODEC, asyncio.get_running_loop())
        self.events: list[StatusEvent] = []

    def publish(self, event: StatusEvent, done: Any = None) -> None:
        self.events.append(event)
        super().publish(event, done)


def insert_settled(
    store: Session,
    hours: float,
    *,
    status: Status = Status.SENT,
    provider: str = "simulated",
    attempt: int = 1,
) -> SmsMessage:
    """Insert a message whose attempt was settled so many hours ago, and record its event."""
    at = datetime.now(UTC) - timedelta(hours=hours)
    message = sms(created_at=at)
    constructor = events.accepted if status is Status.SENT else events.in_doubt
    event = constructor(message, attempt=attempt, provider=provider, at=at, response=NO_RESPONSE)
    row = (message.id, attempt)
    store.execute(
        "INSERT INTO consumers.attempt (message_id, attempt, tenant, channel, provider, owner,"
        " claimed_at) VALUES (%s, %s, 'acme', 'sms', %s, gen_random_uuid(), %s)",
        (*row, provider, at),
    )
    store.execute(
        "INSERT INTO consumers.outcome (message_id, attempt, status, reason, occurred_at)"
        " VALUES (%s, %s, %s, %s, %s)",
        (*row, status, event.reason, at),
    )
    merge.merge(store, [event], {})
    return message


def timeouts_of(
    pool: AsyncConnectionPool, publisher: RecordingPublisher, **changes: Any
) -> ReceiptTimeouts:
    """Build the task, with a timeout of two hours."""
    defaults: dict[str, Any] = {
        "channel": Channel.SMS,
        "providers": ["simulated"],
        "timeout_hours": 2.0,
    }
    return ReceiptTimeouts(pool, publisher, **(defaults | changes))


def state(store: Session, message_id: UUID) -> tuple[Any, ...]:
    row = store.execute(
        "SELECT status, reason, sent_at FROM audit.state WHERE message_id = %s", (message_id,)
    ).fetchone()
    assert row is not None
    return tuple(row)


async def test_an_overdue_receipt_is_reported_and_the_status_stays(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer, broker: Broker
) -> None:
    sent, lost = insert_settled(store, 3), insert_settled(store, 4, status=Status.UNKNOWN)
    insert_settled(store, 1)  # is in time
    publisher = RecordingPublisher(producer)
    assert await timeouts_of(pool, publisher).report_overdue() == 2
    assert {(e.message_id, e.status, e.reason) for e in publisher.events} == {
        (sent.id, Status.SENT, Reason.NO_RECEIPT),
        (lost.id, Status.UNKNOWN, Reason.NO_RECEIPT),
    }
    assert {event.detail for event in publisher.events} == {"no receipt within 2 h"}
    with listener(broker) as status_topic:
        assert await asyncio.to_thread(status_topic.wait_for, sent.id, Status.SENT)
    before = state(store, sent.id)
    merge.merge(store, publisher.events, {})
    assert state(store, sent.id) == ("sent", "no_receipt", before[2])
    assert state(store, lost.id)[:2] == ("unknown", "no_receipt")


async def test_it_is_reported_until_it_is_recorded(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer
) -> None:
    insert_settled(store, 3)
    first, second = RecordingPublisher(producer), RecordingPublisher(producer)
    timeouts = timeouts_of(pool, first)
    assert await timeouts.report_overdue() == 1
    assert await timeouts.report_overdue() == 1  # the broker may have lost it
    assert await timeouts_of(pool, second).report_overdue() == 1
    assert first.events == [*second.events, *second.events]  # the same event from every process
    merge.merge(store, first.events, {})
    assert await timeouts.report_overdue() == 0
    assert await timeouts_of(pool, second).report_overdue() == 0


async def test_confirmed_retried_and_ended_messages_are_not_reported(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer
) -> None:
    confirmed, retried, ended = (insert_settled(store, 3) for _ in range(3))
    store.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value)"
        " VALUES (%s, gen_random_uuid(), 'sms', '')",
        (confirmed.id,),
    )
    store.execute(
        "INSERT INTO consumers.attempt (message_id, attempt, tenant, channel, provider, owner,"
        " claimed_at) VALUES (%s, 2, 'acme', 'sms', 'simulated', gen_random_uuid(), now())",
        (retried.id,),
    )
    merge.merge(
        store,
        [events.failed(ended, reason=Reason.REJECTED, at=datetime.now(UTC), attempt=1)],
        {},
    )
    assert await timeouts_of(pool, RecordingPublisher(producer)).report_overdue() == 0


async def test_providers_without_receipts_are_not_reported(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer
) -> None:
    insert_settled(store, 3, provider="smtp")
    assert await timeouts_of(pool, RecordingPublisher(producer)).report_overdue() == 0
    configured = [
        ProviderSettings(name="main", type="smtp"),
        ProviderSettings(name="stub", type="simulated"),
    ]
    assert providers_with_receipts(Channel.EMAIL, configured) == ["stub"]


async def test_each_look_continues_where_the_last_one_ended(
    pool: AsyncConnectionPool,
    store: Session,
    producer: EventProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.receipts.timeouts.PAGE", 2)
    now = 1_000_000.0
    publisher = RecordingPublisher(producer)
    timeouts = timeouts_of(pool, publisher, monotonic=lambda: now)
    for minutes in range(5):
        insert_settled(store, 3 + minutes / 60)
    assert await timeouts.report_overdue() == 5
    merge.merge(store, publisher.events, {})
    assert await timeouts.report_overdue() == 0
    insert_settled(store, 3)  # written long after the time in it: a look does not go back for ever
    assert await timeouts.report_overdue() == 0
    now += 1800
    insert_settled(store, 2.5)
    assert await timeouts.report_overdue() == 1


async def test_the_task_ends_if_there_is_nothing_to_look_for(
    pool: AsyncConnectionPool, producer: EventProducer
) -> None:
    publisher = RecordingPublisher(producer)
    await asyncio.wait_for(timeouts_of(pool, publisher, providers=[]).run(), 5)
    await asyncio.wait_for(timeouts_of(pool, publisher, timeout_hours=0).run(), 5)
