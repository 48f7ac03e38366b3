"""Resends by channel processes: how often a provider is called, and what is recorded."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import httpx2 as httpx
import pytest

from audit import merge
from comms.platform.kafka import Broker
from comms.platform.settings import Settings
from consumers.ledger.delivery import RETRY_NONCE
from schemas import events
from schemas.events import StatusEvent
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, OnDoubt, Reason, Status
from tests.consumers.harness import (
    SimulatorClient,
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    simulator,
    sms,
)
from tests.consumers.redrive.conftest import Play, Session

CONFIG = """
[sms]
call_timeout_seconds = 0.5
[sms.retry]
attempts = 2
base_seconds = 0.1
"""


@pytest.fixture
def settings(broker: Broker, database_url: str, tmp_path: Path) -> Settings:
    """Two attempts, and little patience."""
    config = tmp_path / "comms.toml"
    config.write_text(CONFIG)
    return settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))


async def resend(client: httpx.AsyncClient, message_id: UUID, nonce: UUID | None = None) -> int:
    body = {"nonce": str(nonce)} if nonce else None
    return (await client.post(f"/v1/messages/{message_id}/resend", json=body)).status_code


async def calls(provider: SimulatorClient, message_id: UUID) -> int:
    """How often the provider was called."""
    return await asyncio.to_thread(provider.calls, message_id)


def attempts(database: Session, message_id: UUID) -> int:
    """Attempts that are settled."""
    row = database.execute(
        "SELECT count(*) FROM consumers.outcome WHERE message_id = %s", (message_id,)
    ).fetchone()
    return int(str(row[0])) if row else 0


def recorded(database_url: str, published: list[StatusEvent]) -> tuple[object, ...] | None:
    """The state that the audit service computes from these events."""
    with merge.connect(database_url) as connection:
        merge.merge(connection, published, {})
        return connection.execute("SELECT status, reason, attempts FROM audit.state").fetchone()


def delivered(message: SmsMessage, sent: StatusEvent) -> StatusEvent:
    assert sent.provider
    return events.receipt(
        message_id=message.id,
        tenant=message.tenant,
        channel=Channel.SMS,
        provider=sent.provider,
        attempt=sent.attempt,
        delivered=True,
        at=sent.occurred_at,
        response=events.ProviderResponse(provider_message_id=sent.provider_message_id),
    )


async def test_a_resend_has_attempts_of_its_own_and_is_recorded_so(
    settings: Settings, broker: Broker, database_url: str, client: httpx.AsyncClient
) -> None:
    message = sms(to="+12025550102")  # refused twice for the moment, then accepted
    with simulator(settings) as provider, listener(broker) as heard, channel(settings):
        publish(broker, message)
        failed = heard.wait_for(message.id, Status.FAILED)
        assert (failed.reason, failed.attempt) == (Reason.RETRIES_EXHAUSTED, 2)
        assert await resend(client, message.id) == 202
        sent = heard.wait_for(message.id, Status.SENT)
        assert (sent.attempt, await calls(provider, message.id)) == (3, 3)
        assert (Status.SENDING, Reason.RESENT) in heard.statuses(message.id)
        published = heard.events[message.id]
    assert recorded(database_url, published) == ("sent", "accepted", 3)
    assert recorded(database_url, [delivered(message, sent)]) == ("delivered", "delivered", 3)


async def test_a_repeated_request_is_one_call_and_two_requests_are_two(
    settings: Settings, broker: Broker, database: Session, client: httpx.AsyncClient
) -> None:
    message, last, first, second = sms(), sms(), uuid4(), uuid4()
    with simulator(settings) as provider, listener(broker) as heard:
        with channel(settings):
            publish(broker, message)
            heard.wait_for(message.id, Status.SENT)
            assert await resend(client, message.id, first) == 202
            assert await resend(client, message.id, first) == 200
            eventually(lambda: attempts(database, message.id) == 2, "sent again")
            assert await resend(client, message.id, first) == 200
        # What a killed process leaves: the same row, once more.
        database.execute(
            "INSERT INTO consumers.deferred (message_id, nonce, channel, value, due_at)"
            " SELECT message_id, %s, channel, value, now() FROM consumers.attempt"
            " WHERE message_id = %s AND attempt = 1 ON CONFLICT DO NOTHING",
            (first, message.id),
        )
        assert await resend(client, message.id, second) == 202
        with channel(settings):
            publish(broker, last)
            heard.wait_for(last.id, Status.SENT)
            eventually(lambda: attempts(database, message.id) == 3, "sent a third time")
            eventually(lambda: _queued(database) == 0, "nothing waits")
        assert await calls(provider, message.id) == 3


def _queued(database: Session) -> int:
    row = database.execute("SELECT count(*) FROM consumers.deferred").fetchone()
    return int(str(row[0])) if row else 0


async def test_an_unknown_message_is_resent_when_it_is_resolved_so(
    settings: Settings, broker: Broker, database: Session, client: httpx.AsyncClient
) -> None:
    message = sms(to="+12025550105", on_doubt=OnDoubt.HOLD)
    with simulator(settings) as provider, listener(broker) as heard, channel(settings):
        publish(broker, message)
        heard.wait_for(message.id, Status.UNKNOWN)
        path = f"/v1/messages/{message.id}/resolve"
        for _ in range(2):  # two callers, one doubtful attempt
            answer = await client.post(path, json={"as": "resend"})
            assert (answer.status_code, answer.json()["status"]) == (200, "sending")
        eventually(lambda: attempts(database, message.id) == 2, "sent again")
        eventually(lambda: _queued(database) == 0, "nothing waits")
        assert await calls(provider, message.id) == 2


async def test_a_cancelled_message_that_waited_is_not_sent(
    settings: Settings, broker: Broker, database: Session, play: Play
) -> None:
    delivery = await play(Status.SENDING, Reason.TIMEOUT, retry_after=0.0)
    message, last = delivery.message, sms()
    withdrawn = database.execute(
        "SELECT consumers.withdraw(%s, 'acme', 'sms')", (message.id,)
    ).fetchone()
    assert withdrawn == (1,)
    # As a worker leaves it that leased the message before it was cancelled, and deferred it.
    database.execute(
        "INSERT INTO consumers.deferred (message_id, channel, value, due_at)"
        " VALUES (%s, 'sms', %s, now())",
        (message.id, delivery.value),
    )
    with simulator(settings) as provider, listener(broker) as heard, channel(settings):
        publish(broker, last)
        heard.wait_for(last.id, Status.SENT)
        eventually(lambda: _queued(database) == 0, "nothing waits")
        assert await calls(provider, message.id) == 0


async def test_a_worker_that_dies_in_the_call_of_a_resend_leaves_one_doubt(
    settings: Settings,
    broker: Broker,
    database: Session,
    client: httpx.AsyncClient,
    play: Play,
) -> None:
    delivery, nonce = await play(Status.FAILED, Reason.REJECTED), uuid4()
    message, last = delivery.message, sms()
    assert await resend(client, message.id, nonce) == 202
    database.execute(  # claimed, and then silence
        "INSERT INTO consumers.attempt (message_id, attempt, tenant, channel, provider, owner,"
        " claimed_at, nonce) VALUES (%s, 2, 'acme', 'sms', 'simulated', gen_random_uuid(),"
        " now() - interval '1 hour', %s)",
        (message.id, nonce),
    )
    with simulator(settings) as provider, listener(broker) as heard, channel(settings):
        publish(broker, last)
        heard.wait_for(last.id, Status.SENT)
        event = heard.wait_for(message.id, Status.SENT)
        assert event.attempt == 3
        eventually(lambda: _queued(database) == 0, "nothing waits")
        assert await calls(provider, message.id) == 1
    assert await resend(client, message.id, nonce) == 200
    assert (Status.SENDING, Reason.AMBIGUOUS) in heard.statuses(message.id)


async def test_the_nonce_of_ordinary_retries_is_refused(client: httpx.AsyncClient) -> None:
    assert await resend(client, uuid4(), RETRY_NONCE) == 422
