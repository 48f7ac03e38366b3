"""Redrive over HTTP: refusals and their reasons, resolutions, and whole runs."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from audit import merge
from comms.platform import keys, problems
from comms.platform.auth import COOKIE, Authenticator
from comms.platform.kafka import Broker
from consumers.ledger.unpublished import UnpublishedEvents, Window
from consumers.redrive import api
from schemas import events
from schemas.events import StatusEvent
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.contract.samples import closed_port
from tests.consumers.harness import listener, sms
from tests.consumers.redrive.conftest import CODEC, Play, Session

Answer = httpx.Response


async def resend(client: httpx.AsyncClient, message_id: UUID, **more: Any) -> Answer:
    return await client.post(f"/v1/messages/{message_id}/resend", **more)


async def resolve(client: httpx.AsyncClient, message_id: UUID, how: str) -> Answer:
    return await client.post(f"/v1/messages/{message_id}/resolve", json={"as": how})


def accept(database: Session, message: SmsMessage) -> None:
    """As the producer does."""
    database.execute(
        "INSERT INTO producer.message (id, tenant, body_hash, channel, recipient, priority,"
        " created_at, expires_at) VALUES (%s, %s, '', 'sms', %s, 'normal', %s, %s)",
        (message.id, message.tenant, message.to, message.created_at, message.expires_at),
    )


@pytest.mark.parametrize(
    ("status", "reason", "word"),
    [
        (None, Reason.CLAIMED, "on its way"),
        (Status.SENDING, Reason.PROVIDER_ERROR, "on its way"),
        (Status.CANCELLED, Reason.CANCELLED, "cancelled"),
    ],
)
async def test_a_message_that_has_not_ended_is_not_resent(
    client: httpx.AsyncClient, play: Play, status: Status | None, reason: Reason, word: str
) -> None:
    answer = await resend(client, (await play(status, reason)).message.id)
    assert answer.status_code == 409
    assert word in answer.json()["detail"]


async def test_a_message_that_is_not_in_the_ledger_is_not_resent(
    client: httpx.AsyncClient, database: Session, play: Play
) -> None:
    waiting = sms()
    accept(database, waiting)
    assert "on its way" in (await resend(client, waiting.id)).json()["detail"]
    kept = await play(Status.FAILED, Reason.REJECTED)
    database.execute("UPDATE consumers.attempt SET value = NULL")
    answer = await resend(client, kept.message.id)
    assert (answer.status_code, "contents" in answer.json()["detail"]) == (409, True)
    assert (await resend(client, new_message_id())).status_code == 404


async def test_an_expired_message_is_not_resent(
    client: httpx.AsyncClient, database: Session, play: Play
) -> None:
    now = datetime.now(UTC)
    message = sms(created_at=now - timedelta(2), expires_at=now - timedelta(1))
    accept(database, message)
    await play(Status.FAILED, Reason.EXPIRED, message=message)
    assert "expires_at" in (await resend(client, message.id)).json()["detail"]


async def test_a_tenant_cannot_redrive_the_messages_of_another(
    client: httpx.AsyncClient, database: Session, play: Play
) -> None:
    failed = await play(Status.FAILED, Reason.REJECTED)
    unknown = await play(Status.UNKNOWN, Reason.AMBIGUOUS)
    client.headers["Authorization"] = f"Bearer {keys.create(database, 'zeta', 'test')}"
    assert (await resend(client, failed.message.id)).status_code == 404
    assert (await resolve(client, unknown.message.id, "sent")).status_code == 404
    page = await client.post("/v1/resends", json={"where": "channel = 'sms'", "dry_run": True})
    assert page.json()["count"] == 0


@pytest.mark.parametrize(
    ("origin", "status"), [("http://comms", 202), ("http://evil.comms", 403), (None, 403)]
)
async def test_a_cookie_is_accepted_from_our_own_pages_only(
    client: httpx.AsyncClient, key: str, play: Play, origin: str | None, status: int
) -> None:
    failed = await play(Status.FAILED, Reason.REJECTED)
    del client.headers["Authorization"]
    client.cookies.set(COOKIE, key)
    headers = {"Origin": origin} if origin else {}
    assert (await resend(client, failed.message.id, headers=headers)).status_code == status


@pytest.mark.parametrize(("how", "status"), [("sent", Status.SENT), ("failed", Status.FAILED)])
async def test_an_unknown_message_is_resolved_once_and_published(
    client: httpx.AsyncClient, broker: Broker, play: Play, how: str, status: Status
) -> None:
    unknown = await play(Status.UNKNOWN, Reason.AMBIGUOUS)
    first, again = [await resolve(client, unknown.message.id, how) for _ in range(2)]
    assert first.status_code == again.status_code == 200
    assert first.json() == {
        "id": str(unknown.message.id),
        "status": status,
        "reason": "resolved",
    }
    other = await resolve(client, unknown.message.id, "sent" if how == "failed" else "failed")
    assert (other.status_code, "settled" in other.json()["detail"]) == (409, True)
    assert (await resolve(client, unknown.message.id, "resend")).status_code == 409
    with listener(broker) as heard:
        event = await asyncio.to_thread(heard.wait_for, unknown.message.id, status)
    assert (event.reason, event.attempt, event.provider) == (Reason.RESOLVED, 1, "simulated")
    assert "support desk" in (event.detail or "")


async def test_of_callers_at_the_same_time_one_resolves_it(
    client: httpx.AsyncClient, database: Session, play: Play
) -> None:
    for _ in range(5):
        unknown = await play(Status.UNKNOWN, Reason.AMBIGUOUS)
        answers = await asyncio.gather(
            *(resolve(client, unknown.message.id, how) for how in ("sent", "failed", "resend"))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    kept = database.execute("SELECT count(*) FROM consumers.receipt").fetchone()
    queued = database.execute("SELECT count(*) FROM consumers.deferred").fetchone()
    assert int(str(kept and kept[0])) + int(str(queued and queued[0])) == 5


@pytest.mark.parametrize(
    ("status", "reason"),
    [(Status.SENT, Reason.ACCEPTED), (Status.FAILED, Reason.REJECTED), (None, Reason.CLAIMED)],
)
async def test_a_message_that_is_not_unknown_cannot_be_resolved(
    client: httpx.AsyncClient, play: Play, status: Status | None, reason: Reason
) -> None:
    known = await play(status, reason)
    answer = await resolve(client, known.message.id, "sent")
    assert answer.status_code == 409
    assert str(status or Status.SENDING) in answer.json()["detail"]


async def test_a_receipt_that_came_first_has_settled_it(
    client: httpx.AsyncClient, database: Session, play: Play
) -> None:
    unknown = await play(Status.UNKNOWN, Reason.AMBIGUOUS)
    event = events.receipt(
        message_id=unknown.message.id,
        tenant="acme",
        channel=Channel.SMS,
        provider="simulated",
        attempt=1,
        delivered=True,
        at=datetime.now(UTC),
        response=events.NO_RESPONSE,
    )
    database.execute(
        "INSERT INTO consumers.receipt (message_id, event_id, channel, value)"
        " VALUES (%s, %s, 'sms', %s)",
        (event.message_id, event.id, CODEC.encode(event, topic="comms.status")),
    )
    answer = await resolve(client, unknown.message.id, "failed")
    assert (answer.status_code, answer.json()["detail"]) == (409, "A receipt has settled it")


async def test_without_a_broker_the_answer_is_503_and_the_event_is_kept(
    pool: AsyncConnectionPool, database: Session, key: str, play: Play
) -> None:
    app, unknown = FastAPI(), await play(Status.UNKNOWN, Reason.AMBIGUOUS)
    problems.install(app)
    producer = Broker(
        {"bootstrap.servers": f"127.0.0.1:{closed_port()}", "message.timeout.ms": "500"}
    ).producer()
    app.include_router(
        api.router(pool=pool, producer=producer, codec=CODEC, authenticator=Authenticator(pool))
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://comms",
        headers={"Authorization": f"Bearer {key}"},
    ) as away:
        answer = await resolve(away, unknown.message.id, "sent")
    producer.close(0.1)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    database.execute("UPDATE consumers.receipt SET taken_at = now() - interval '1 min'")
    unpublished = UnpublishedEvents(pool, channel=Channel.SMS)
    [(message_id, value)] = await unpublished.receipts(Window(oldest=600, newest=30), limit=9)
    event = CODEC.decode(value, StatusEvent)
    assert (message_id, event.reason) == (unknown.message.id, Reason.RESOLVED)


async def run(client: httpx.AsyncClient, nonce: UUID, **more: Any) -> list[str]:
    """The results of all pages of a run."""
    body = {"where": "status = 'failed'", "nonce": str(nonce), "limit": 2, **more}
    results: list[str] = []
    while True:
        page = (await client.post("/v1/resends", json=body)).json()
        results += [item["result"] for item in page["items"]]
        if page["next_cursor"] is None:
            return results
        body["cursor"] = page["next_cursor"]


async def test_a_repeated_run_sends_each_message_once(
    client: httpx.AsyncClient, database: Session, database_url: str, play: Play
) -> None:
    failed = [(await play(Status.FAILED, Reason.REJECTED)).message for _ in range(5)]
    sent = (await play(Status.SENT)).message
    with merge.connect(database_url) as connection:
        at = datetime.now(UTC)
        recorded = [
            events.failed(m, reason=Reason.REJECTED, at=at, attempt=1, provider="p") for m in failed
        ]
        response = events.NO_RESPONSE
        recorded.append(events.accepted(sent, attempt=1, provider="p", at=at, response=response))
        merge.merge(connection, recorded, {})
    body = {"where": "status = 'failed' and channel = 'sms'", "dry_run": True}
    preview = (await client.post("/v1/resends", json=body)).json()
    assert preview["groups"] == [{"status": "failed", "reason": "rejected", "count": 5}]
    assert [m["id"] for m in preview["first"]] == [str(m.id) for m in reversed(failed)]
    assert database.execute("SELECT count(*) FROM consumers.deferred").fetchone() == (0,)
    nonce = uuid4()
    assert await run(client, nonce) == ["queued"] * 5
    assert await run(client, nonce) == ["known"] * 5
    assert database.execute("SELECT count(*) FROM consumers.deferred").fetchone() == (5,)


async def test_a_wrong_filter_is_refused_with_the_place_in_it(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/resends", json={"where": "colour = 'red'", "dry_run": True})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "where"
    assert error["problem"].startswith("at character 1: there is no colour")
    without_run_id = await client.post("/v1/resends", json={"where": "status = 'failed'"})
    assert [e["field"] for e in without_run_id.json()["errors"]] == ["run_id"]
