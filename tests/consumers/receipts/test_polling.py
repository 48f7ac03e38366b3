"""Polling for receipts: the messages that are due, from the ledger, and the answers."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from audit import merge
from comms.platform.database import create_pool
from comms.platform.kafka import Broker, EventProducer
from consumers.push.expo import ExpoPush
from consumers.receipts.poller import ReceiptPoller
from consumers.receipts.processor import ReceiptProcessor
from consumers.registry import providers_with_receipts
from consumers.sdk.receipt_polling import PollSchedule, ReceiptPollError
from consumers.sdk.receipt_stream import ReceiptNotStoredError
from schemas import events
from schemas.codec import Codec
from schemas.events import ProviderResponse
from schemas.ids import new_message_id
from schemas.messages import PushMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.contract.http_suite import Reply
from tests.consumers.contract.samples import only_provider, settings_with
from tests.consumers.harness import channel, eventually, listener, publish, settings_for
from tests.consumers.push.expo_stub import OK, ExpoStub, bad, expo_stub

DEVICE = "ExponentPushToken[one-of-somebody]"
Session = psycopg.Connection[Any]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def producer(broker: Broker) -> Iterator[EventProducer]:
    opened = broker.producer()
    yield opened
    opened.close()


@pytest.fixture
async def expo() -> AsyncIterator[ExpoStub]:
    async with expo_stub() as opened:
        yield opened


def insert_accepted(
    session: Session,
    ticket: str | None = None,
    *,
    minutes: float = 20,
    response: str | None = None,
    provider: str = "expo",
    status: Status = Status.SENT,
    message_id: UUID | None = None,
    attempt: int = 1,
) -> UUID:
    """Insert a message whose attempt was settled so many minutes ago."""
    message_id, at = message_id or new_message_id(), datetime.now(UTC) - timedelta(minutes=minutes)
    session.execute(
        "INSERT INTO consumers.attempt (message_id, attempt, tenant, channel, provider, owner,"
        " claimed_at) VALUES (%s, %s, 'acme', 'push', %s, gen_random_uuid(), %s)",
        (message_id, attempt, provider, at),
    )
    session.execute(
        "INSERT INTO consumers.outcome (message_id, attempt, status, reason, provider_message_id,"
        " response, occurred_at) VALUES (%s, %s, %s, 'accepted', %s, %s, %s)",
        (message_id, attempt, status, ticket, response, at),
    )
    return message_id


@asynccontextmanager
async def poller_of_process(
    pool: AsyncConnectionPool, producer: EventProducer, expo: ExpoStub
) -> AsyncIterator[ReceiptPoller]:
    """Open the poller of one process."""
    settings = settings_with(Channel.PUSH, {"name": "expo", "base_url": expo.url})
    provider = only_provider(settings, Channel.PUSH)
    assert isinstance(provider, ExpoPush)
    await provider.open()
    store = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    yield ReceiptPoller(pool, provider, store, channel=Channel.PUSH, name="expo")
    await provider.close()


async def wait_for_event(broker: Broker, message_id: UUID, status: Status) -> Any:
    """Wait for the event that gives the message this status."""
    with listener(broker) as status_topic:
        return await asyncio.to_thread(status_topic.wait_for, message_id, status)


async def test_a_receipt_is_published_once_and_not_polled_again(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    broker: Broker,
) -> None:
    handed_on, failed = insert_accepted(session, "t-1"), insert_accepted(session, "t-2")
    expo.receipts = {"t-1": OK, "t-2": bad("MessageTooBig")}
    async with (
        poller_of_process(pool, producer, expo) as first,
        poller_of_process(pool, producer, expo) as second,
    ):
        assert await first.poll() == 2
        assert await first.poll() == 0
        assert await second.poll() == 0  # nor by a process that has never polled
    assert expo.asked == [["t-1", "t-2"]]
    event = await wait_for_event(broker, handed_on, Status.SENT)
    assert (event.reason, event.attempt, event.provider) == (Reason.ACCEPTED, 1, "expo")
    assert (event.provider_message_id, event.detail) == ("t-1", "Google or Apple took it")
    event = await wait_for_event(broker, failed, Status.FAILED)
    assert (event.reason, event.code) == (Reason.INVALID_CONTENT, "MessageTooBig")


async def test_only_open_messages_that_are_due_are_polled(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    insert_accepted(session, "early", minutes=10)
    insert_accepted(session, "forgotten", minutes=24 * 60)
    insert_accepted(session, "of another provider", provider="fcm")
    insert_accepted(session, "refused", status=Status.FAILED)
    insert_accepted(session, None)
    retried = insert_accepted(session, "first", minutes=120)
    insert_accepted(session, "second", minutes=60, message_id=retried, attempt=2)
    old = insert_accepted(session, "old", minutes=22 * 60)
    answered = insert_accepted(session, "answered")
    session.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value)"
        " VALUES (%s, gen_random_uuid(), 'push', '')",
        (answered,),
    )
    async with poller_of_process(pool, producer, expo) as poller:
        assert await poller.poll() == 0
        assert expo.tickets_asked == ["old", "second"]
        expo.receipts["old"] = OK
        assert await poller.poll() == 0  # it is not due again
        assert expo.tickets_asked == ["old", "second"]
    async with poller_of_process(pool, producer, expo) as after_a_restart:
        assert await after_a_restart.poll() == 1
        assert expo.tickets_asked[2:] == ["old", "second"]
    assert session.execute("SELECT message_id FROM consumers.receipt").fetchall() == [
        (answered,),
        (old,),
    ]


async def test_after_a_resend_the_new_attempt_is_polled(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    message_id = insert_accepted(session, "first", minutes=100)
    session.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value, taken_at)"
        " VALUES (%s, gen_random_uuid(), 'push', '', now() - interval '80 min')",
        (message_id,),
    )
    insert_accepted(session, "second", minutes=20, message_id=message_id, attempt=2)
    async with poller_of_process(pool, producer, expo) as poller:
        await poller.poll()
    assert expo.tickets_asked == ["second"]


async def test_an_unregistered_device_is_suppressed_if_it_is_the_only_recipient(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    broker: Broker,
) -> None:
    devices = [{"n": n, "became": "accepted", "said": f"t-{n}"} for n in (1, 2)]
    only = insert_accepted(session, "t-0")
    several = insert_accepted(session, "t-1", response=json.dumps(devices))
    for message_id, recipient in ((only, DEVICE), (several, "ExponentPushToken[another]")):
        session.execute(
            "INSERT INTO audit.state (message_id, tenant, channel, status, reason, attempts,"
            " provider, recipient, created_at, updated_at, metadata) VALUES"
            " (%s, 'acme', 'push', 'sent', 'accepted', 1, 'expo', %s, now(), now(), '{}')",
            (message_id, recipient),
        )
    expo.receipts = {f"t-{n}": bad("DeviceNotRegistered") for n in range(3)}
    async with poller_of_process(pool, producer, expo) as poller:
        assert await poller.poll() == 2
    for message_id in (only, several):
        event = await wait_for_event(broker, message_id, Status.FAILED)
        assert event.reason is Reason.INVALID_RECIPIENT
    rows = session.execute("SELECT recipient, reason FROM consumers.suppression").fetchall()
    assert rows == [(DEVICE, "hard_bounce")]


@pytest.mark.parametrize(
    "reply",
    [Reply(500, "later"), Reply(429, "", {"Retry-After": "9"}), Reply(200, "<html>")],
    ids=lambda reply: str(reply.status),
)
async def test_a_message_without_an_answer_is_polled_again(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    reply: Reply,
) -> None:
    async with poller_of_process(pool, producer, expo) as poller:
        await poller.poll()
        insert_accepted(session, "t-1", minutes=15)
        expo.receipts, expo.reply = {"t-1": OK}, reply
        with pytest.raises(ReceiptPollError):
            await poller.poll()
        assert session.execute("SELECT count(*) FROM consumers.receipt").fetchone() == (0,)
        expo.reply = None
        assert await poller.poll() == 1


async def test_a_receipt_that_could_not_be_stored_is_polled_again(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    insert_accepted(session, "t-1")
    expo.receipts["t-1"] = OK
    session.execute("ALTER TABLE consumers.receipt ADD CONSTRAINT no_room CHECK (false) NOT VALID")
    async with poller_of_process(pool, producer, expo) as poller:
        with pytest.raises(ReceiptNotStoredError):
            await poller.poll()
        session.execute("ALTER TABLE consumers.receipt DROP CONSTRAINT no_room")
        assert await poller.poll() == 1


async def test_only_one_process_polls_at_a_time(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    insert_accepted(session, "t-1")
    async with (
        poller_of_process(pool, producer, expo) as first,
        poller_of_process(pool, producer, expo) as second,
    ):
        async with first._lock() as lock:
            assert lock is not None
            assert await second.poll() == 0
            assert expo.asked == []
        await second.poll()
        assert expo.asked == [["t-1"]]


async def test_messages_are_polled_page_by_page(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.receipts.poller.PAGE", 2)
    for number in range(5):
        insert_accepted(session, f"t-{number}", minutes=20 + number)
        expo.receipts[f"t-{number}"] = OK
    async with poller_of_process(pool, producer, expo) as poller:
        assert await poller.poll() == 5
    assert expo.asked == [["t-4", "t-3"], ["t-2", "t-1"], ["t-0"]]


def test_a_polled_provider_owes_no_receipt_for_each_message() -> None:
    settings = settings_with(Channel.PUSH, {"name": "expo"})
    assert providers_with_receipts(Channel.PUSH, settings.channels[Channel.PUSH].providers) == []


@contextmanager
def expo_on_a_thread() -> Iterator[ExpoStub]:
    """The stub beside a process under test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    context = expo_stub()
    yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(10)
    asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def push(*tokens: str) -> PushMessage:
    return PushMessage(
        id=new_message_id(),
        tenant="acme",
        created_at=datetime.now(UTC),
        tokens=tokens,
        title="Hello",
        body="You",
    )


def test_a_channel_process_polls_for_messages_of_an_earlier_process(
    broker: Broker, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = PollSchedule(ready_after=timedelta(seconds=0.1), kept_for=timedelta(hours=1))
    monkeypatch.setattr("consumers.receipts.poller.POLL_SECONDS", 0.1)
    monkeypatch.setattr(ExpoPush, "poll_schedule", soon)
    unregistered, unanswered = push(DEVICE, "ExponentPushToken[another-of-theirs]"), push("device")
    with expo_on_a_thread() as expo, listener(broker) as status_topic:
        config = tmp_path / "comms.toml"
        config.write_text(f'[[push.providers]]\nname = "expo"\nbase_url = "{expo.url}"\n')
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        expo.reply = Reply(500, "later")
        with channel(settings, Channel.PUSH):
            publish(broker, unregistered)
            status_topic.wait_for(unregistered.id, Status.SENT)
            publish(broker, unanswered)
            status_topic.wait_for(unanswered.id, Status.SENT)
            eventually(lambda: len(expo.asked) >= 2, "two polls")
        expo.receipts, expo.reply = {f"t-{n}": bad("DeviceNotRegistered") for n in (1, 2)}, None
        with channel(settings, Channel.PUSH):
            event = status_topic.wait_for(unregistered.id, Status.FAILED)
        with channel(settings, Channel.PUSH):
            before = len(expo.asked)
            eventually(lambda: len(expo.asked) > before, "a poll after the restart")
    assert (event.reason, event.attempt) == (Reason.INVALID_RECIPIENT, 1)
    assert event.detail == "0 of 2 devices handed on, 2 are gone"
    assert expo.asked[-1] == ["t-3"]
    assert [status for status, _ in status_topic.statuses(unanswered.id)] == [
        Status.SENDING,
        Status.SENT,
    ]


def test_a_message_handed_to_a_carrier_keeps_its_sent_time(database_url: str) -> None:
    message, at = push(DEVICE), datetime.now(UTC)
    response = ProviderResponse(provider_message_id="t-1", detail="Google or Apple took it")
    accepted = events.accepted(
        message, attempt=1, provider="expo", at=at, response=replace(response, detail=None)
    )
    handed_on = events.handed_to_carrier(
        message_id=message.id,
        tenant="acme",
        channel=Channel.PUSH,
        provider="expo",
        attempt=1,
        at=at + timedelta(minutes=15),
        response=response,
    )
    with merge.connect(database_url) as store:
        for event in (accepted, handed_on):
            merge.merge(store, [event], {})
        rows = store.execute(
            "SELECT status, reason, sent_at, finished_at, detail FROM audit.state"
        ).fetchall()
    assert rows == [("sent", "accepted", at, None, "Google or Apple took it")]
