"""Asking for receipts: what is asked, from the ledger alone, and what comes of the answers."""

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
    made = create_pool(database_url, size=4, name="test")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


@pytest.fixture(scope="module")
def producer(broker: Broker) -> Iterator[EventProducer]:
    made = broker.producer()
    yield made
    made.close()


@pytest.fixture
async def expo() -> AsyncIterator[ExpoStub]:
    async with expo_stub() as made:
        yield made


def taken(
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
    """A message whose attempt came to this so many minutes ago, as the ledger has it."""
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
async def asking(
    pool: AsyncConnectionPool, producer: EventProducer, expo: ExpoStub
) -> AsyncIterator[ReceiptPoller]:
    """What one process asks Expo with."""
    settings = settings_with(Channel.PUSH, {"name": "expo", "base_url": expo.url})
    provider = only_provider(settings, Channel.PUSH)
    assert isinstance(provider, ExpoPush)
    await provider.open()
    tell = ReceiptProcessor(pool, producer, Codec()).for_provider(Channel.PUSH, "expo")
    yield ReceiptPoller(pool, provider, tell, channel=Channel.PUSH, name="expo")
    await provider.close()


async def heard(broker: Broker, message_id: UUID, status: Status) -> Any:
    """The event that was announced of it."""
    with listener(broker) as listening:
        return await asyncio.to_thread(listening.wait_for, message_id, status)


async def test_an_answer_is_announced_once_and_not_asked_for_again(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    broker: Broker,
) -> None:
    handed_on, failed = taken(session, "t-1"), taken(session, "t-2")
    expo.receipts = {"t-1": OK, "t-2": bad("MessageTooBig")}
    async with asking(pool, producer, expo) as one, asking(pool, producer, expo) as other:
        assert await one.poll() == 2
        assert await one.poll() == 0
        assert await other.poll() == 0  # nor by a process that has never looked
    assert expo.asked == [["t-1", "t-2"]]
    event = await heard(broker, handed_on, Status.SENT)
    assert (event.reason, event.attempt, event.provider) == (Reason.ACCEPTED, 1, "expo")
    assert (event.provider_message_id, event.detail) == ("t-1", "Google or Apple took it")
    event = await heard(broker, failed, Status.FAILED)
    assert (event.reason, event.code) == (Reason.INVALID_CONTENT, "MessageTooBig")


async def test_only_what_is_open_and_of_an_age_is_asked_about(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    taken(session, "early", minutes=10)
    taken(session, "forgotten", minutes=24 * 60)
    taken(session, "of another", provider="fcm")
    taken(session, "refused", status=Status.FAILED)
    taken(session, None)
    again = taken(session, "first", minutes=120)
    taken(session, "second", minutes=60, message_id=again, attempt=2)
    old = taken(session, "old", minutes=22 * 60)
    answered = taken(session, "answered")
    session.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value)"
        " VALUES (%s, gen_random_uuid(), 'push', '')",
        (answered,),
    )
    async with asking(pool, producer, expo) as inquiry:
        assert await inquiry.poll() == 0
        assert expo.tickets_asked == ["old", "second"]
        expo.receipts["old"] = OK
        assert await inquiry.poll() == 0  # its next moment is not there
        assert expo.tickets_asked == ["old", "second"]
    async with asking(pool, producer, expo) as after_a_restart:
        assert await after_a_restart.poll() == 1
        assert expo.tickets_asked[2:] == ["old", "second"]
    assert session.execute("SELECT message_id FROM consumers.receipt").fetchall() == [
        (answered,),
        (old,),
    ]


async def test_after_a_resend_the_new_attempt_is_asked_about(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    message_id = taken(session, "first", minutes=100)
    session.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value, taken_at)"
        " VALUES (%s, gen_random_uuid(), 'push', '', now() - interval '80 min')",
        (message_id,),
    )
    taken(session, "second", minutes=20, message_id=message_id, attempt=2)
    async with asking(pool, producer, expo) as inquiry:
        await inquiry.poll()
    assert expo.tickets_asked == ["second"]


async def test_a_device_that_is_gone_is_suppressed_where_it_is_the_only_one(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    broker: Broker,
) -> None:
    devices = [{"n": n, "became": "accepted", "said": f"t-{n}"} for n in (1, 2)]
    only = taken(session, "t-0")
    several = taken(session, "t-1", response=json.dumps(devices))
    for message_id, recipient in ((only, DEVICE), (several, "ExponentPushToken[another]")):
        session.execute(
            "INSERT INTO audit.state (message_id, tenant, channel, status, reason, attempts,"
            " provider, recipient, created_at, updated_at, metadata) VALUES"
            " (%s, 'acme', 'push', 'sent', 'accepted', 1, 'expo', %s, now(), now(), '{}')",
            (message_id, recipient),
        )
    expo.receipts = {f"t-{n}": bad("DeviceNotRegistered") for n in range(3)}
    async with asking(pool, producer, expo) as inquiry:
        assert await inquiry.poll() == 2
    for message_id in (only, several):
        event = await heard(broker, message_id, Status.FAILED)
        assert event.reason is Reason.INVALID_RECIPIENT
    found = session.execute("SELECT recipient, reason FROM consumers.suppression").fetchall()
    assert found == [(DEVICE, "hard_bounce")]


@pytest.mark.parametrize(
    "reply",
    [Reply(500, "later"), Reply(429, "", {"Retry-After": "9"}), Reply(200, "<html>")],
    ids=lambda reply: str(reply.status),
)
async def test_what_had_no_answer_is_asked_by_the_next_look(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    reply: Reply,
) -> None:
    async with asking(pool, producer, expo) as inquiry:
        await inquiry.poll()
        taken(session, "t-1", minutes=15)
        expo.receipts, expo.reply = {"t-1": OK}, reply
        with pytest.raises(ReceiptPollError):
            await inquiry.poll()
        assert session.execute("SELECT count(*) FROM consumers.receipt").fetchone() == (0,)
        expo.reply = None
        assert await inquiry.poll() == 1


async def test_what_could_not_be_kept_is_asked_by_the_next_look(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    taken(session, "t-1")
    expo.receipts["t-1"] = OK
    session.execute("ALTER TABLE consumers.receipt ADD CONSTRAINT no_room CHECK (false) NOT VALID")
    async with asking(pool, producer, expo) as inquiry:
        with pytest.raises(ReceiptNotStoredError):
            await inquiry.poll()
        session.execute("ALTER TABLE consumers.receipt DROP CONSTRAINT no_room")
        assert await inquiry.poll() == 1


async def test_while_one_process_asks_another_does_not(
    pool: AsyncConnectionPool, session: Session, producer: EventProducer, expo: ExpoStub
) -> None:
    taken(session, "t-1")
    async with asking(pool, producer, expo) as one, asking(pool, producer, expo) as other:
        async with one._lock() as turn:
            assert turn is not None
            assert await other.poll() == 0
            assert expo.asked == []
        await other.poll()
        assert expo.asked == [["t-1"]]


async def test_all_are_asked_about_page_by_page(
    pool: AsyncConnectionPool,
    session: Session,
    producer: EventProducer,
    expo: ExpoStub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.receipts.poller.PAGE", 2)
    for number in range(5):
        taken(session, f"t-{number}", minutes=20 + number)
        expo.receipts[f"t-{number}"] = OK
    async with asking(pool, producer, expo) as inquiry:
        assert await inquiry.poll() == 5
    assert expo.asked == [["t-4", "t-3"], ["t-2", "t-1"], ["t-0"]]


def test_who_is_asked_owes_no_receipt_for_each_message() -> None:
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


def test_a_channel_process_asks_from_what_an_earlier_one_left(
    broker: Broker, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = PollSchedule(ready_after=timedelta(seconds=0.1), kept_for=timedelta(hours=1))
    monkeypatch.setattr("consumers.receipts.poller.POLL_SECONDS", 0.1)
    monkeypatch.setattr(ExpoPush, "poll_schedule", soon)
    gone, missing = push(DEVICE, "ExponentPushToken[another-of-theirs]"), push("device")
    with expo_on_a_thread() as expo, listener(broker) as listening:
        config = tmp_path / "comms.toml"
        config.write_text(f'[[push.providers]]\nname = "expo"\nbase_url = "{expo.url}"\n')
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        expo.reply = Reply(500, "later")
        with channel(settings, Channel.PUSH):
            publish(broker, gone)
            listening.wait_for(gone.id, Status.SENT)
            publish(broker, missing)
            listening.wait_for(missing.id, Status.SENT)
            eventually(lambda: len(expo.asked) >= 2, "asked, and asked again")
        expo.receipts, expo.reply = {f"t-{n}": bad("DeviceNotRegistered") for n in (1, 2)}, None
        with channel(settings, Channel.PUSH):
            event = listening.wait_for(gone.id, Status.FAILED)
        with channel(settings, Channel.PUSH):
            before = len(expo.asked)
            eventually(lambda: len(expo.asked) > before, "asked after the restart")
    assert (event.reason, event.attempt) == (Reason.INVALID_RECIPIENT, 1)
    assert event.detail == "0 of 2 devices handed on, 2 are gone"
    assert expo.asked[-1] == ["t-3"]
    assert [status for status, _ in listening.statuses(missing.id)] == [
        Status.SENDING,
        Status.SENT,
    ]


def test_what_is_handed_on_stays_sent_since_when_it_was(database_url: str) -> None:
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
        found = store.execute(
            "SELECT status, reason, sent_at, finished_at, detail FROM audit.state"
        ).fetchall()
    assert found == [("sent", "accepted", at, None, "Google or Apple took it")]
