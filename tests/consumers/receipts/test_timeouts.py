"""Receipts that never came: found in the ledger after the time allowed, announced once, no more."""

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
    made = create_pool(database_url, size=3, name="test")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def store(database_url: str) -> Iterator[Session]:
    """The audit store, as its service has it open."""
    with merge.connect(database_url) as session:
        yield session


@pytest.fixture
def producer(broker: Broker) -> Iterator[EventProducer]:
    made = broker.producer()
    yield made
    made.close()


class Kept(StatusPublisher):
    """Announces as ever, and keeps a record."""

    def __init__(self, producer: EventProducer) -> None:
        super().__init__(producer, CODEC, asyncio.get_running_loop())
        self.events: list[StatusEvent] = []

    def publish(self, event: StatusEvent, done: Any = None) -> None:
        self.events.append(event)
        super().publish(event, done)


def settled(
    store: Session,
    hours: float,
    *,
    status: Status = Status.SENT,
    provider: str = "simulated",
    attempt: int = 1,
) -> SmsMessage:
    """A message whose attempt came to `status` so many hours ago, as ledger and store know it."""
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


def overdue(pool: AsyncConnectionPool, told: Kept, **changes: Any) -> ReceiptTimeouts:
    """A look for what has waited longer than two hours."""
    resend_request: dict[str, Any] = {
        "channel": Channel.SMS,
        "providers": ["simulated"],
        "timeout_hours": 2.0,
    }
    return ReceiptTimeouts(pool, told, **(resend_request | changes))


def state(store: Session, message_id: UUID) -> tuple[Any, ...]:
    found = store.execute(
        "SELECT status, reason, sent_at FROM audit.state WHERE message_id = %s", (message_id,)
    ).fetchone()
    assert found is not None
    return tuple(found)


async def test_what_waits_too_long_is_told_and_stays_what_it_is(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer, broker: Broker
) -> None:
    sent, lost = settled(store, 3), settled(store, 4, status=Status.UNKNOWN)
    settled(store, 1)  # has time left
    told = Kept(producer)
    assert await overdue(pool, told).report_overdue() == 2
    assert {(e.message_id, e.status, e.reason) for e in told.events} == {
        (sent.id, Status.SENT, Reason.NO_RECEIPT),
        (lost.id, Status.UNKNOWN, Reason.NO_RECEIPT),
    }
    assert {event.detail for event in told.events} == {"no receipt within 2 h"}
    with listener(broker) as heard:
        assert await asyncio.to_thread(heard.wait_for, sent.id, Status.SENT)
    before = state(store, sent.id)
    merge.merge(store, told.events, {})
    assert state(store, sent.id) == ("sent", "no_receipt", before[2])
    assert state(store, lost.id)[:2] == ("unknown", "no_receipt")


async def test_it_is_told_until_it_is_recorded_and_then_no_more(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer
) -> None:
    settled(store, 3)
    one, other = Kept(producer), Kept(producer)
    looking = overdue(pool, one)
    assert await looking.report_overdue() == 1
    assert await looking.report_overdue() == 1  # the broker may have lost it
    assert await overdue(pool, other).report_overdue() == 1
    assert one.events == [*other.events, *other.events]  # the same event, whoever tells it
    merge.merge(store, one.events, {})
    assert await looking.report_overdue() == 0
    assert await overdue(pool, other).report_overdue() == 0


async def test_what_was_confirmed_or_tried_again_or_ended_is_left_alone(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer
) -> None:
    confirmed, again, ended = (settled(store, 3) for _ in range(3))
    store.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value)"
        " VALUES (%s, gen_random_uuid(), 'sms', '')",
        (confirmed.id,),
    )
    store.execute(
        "INSERT INTO consumers.attempt (message_id, attempt, tenant, channel, provider, owner,"
        " claimed_at) VALUES (%s, 2, 'acme', 'sms', 'simulated', gen_random_uuid(), now())",
        (again.id,),
    )
    merge.merge(
        store,
        [events.failed(ended, reason=Reason.REJECTED, at=datetime.now(UTC), attempt=1)],
        {},
    )
    assert await overdue(pool, Kept(producer)).report_overdue() == 0


async def test_a_provider_without_receipts_owes_none(
    pool: AsyncConnectionPool, store: Session, producer: EventProducer
) -> None:
    settled(store, 3, provider="smtp")
    assert await overdue(pool, Kept(producer)).report_overdue() == 0
    configured = [
        ProviderSettings(name="main", type="smtp"),
        ProviderSettings(name="stub", type="simulated"),
    ]
    assert providers_with_receipts(Channel.EMAIL, configured) == ["stub"]


async def test_a_look_goes_no_further_back_than_the_last_one_and_finds_them_all(
    pool: AsyncConnectionPool,
    store: Session,
    producer: EventProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.receipts.timeouts.PAGE", 2)
    now = 1_000_000.0
    told = Kept(producer)
    looking = overdue(pool, told, monotonic=lambda: now)
    for minutes in range(5):
        settled(store, 3 + minutes / 60)
    assert await looking.report_overdue() == 5
    merge.merge(store, told.events, {})
    assert await looking.report_overdue() == 0
    settled(store, 3)  # written long after the time that stands in it: a look is not for ever
    assert await looking.report_overdue() == 0
    now += 1800
    settled(store, 2.5)
    assert await looking.report_overdue() == 1


async def test_with_nothing_to_look_for_the_task_ends(
    pool: AsyncConnectionPool, producer: EventProducer
) -> None:
    told = Kept(producer)
    await asyncio.wait_for(overdue(pool, told, providers=[]).run(), 5)
    await asyncio.wait_for(overdue(pool, told, timeout_hours=0).run(), 5)
