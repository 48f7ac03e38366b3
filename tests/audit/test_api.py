"""The read API over a real database: filters, paging, tenants, statistics, readiness, events."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from audit import api, merge
from audit.feed import Feed
from audit.queries.changes import Cursor
from comms.platform.clock import utc_now
from schemas import events
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage
from schemas.vocabulary import Mode
from tests.audit import samples


async def get(client: httpx.AsyncClient, path: str, **params: str | int) -> Any:
    response = await client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def recent(n: int, **fields: Any) -> SmsMessage:
    return samples.sms(at=utc_now() - timedelta(seconds=100 - n), **fields)


def accept(connection: psycopg.Connection, message: SmsMessage, *, queue: str) -> None:
    """Insert what the producer has of a message, as far as these queries read it."""
    connection.execute(
        "INSERT INTO producer.message (id, tenant, body_hash, channel, recipient, customer_id,"
        " workflow, priority, created_at, send_at) VALUES (%s,%s,'',%s,%s,%s,%s,'normal',%s,%s)",
        (
            *(message.id, message.tenant, message.channel, message.recipient),
            *(message.customer_id, message.workflow, message.created_at, message.send_at),
        ),
    )
    if queue == "outbox":
        connection.execute(
            "INSERT INTO producer.outbox (message_id, topic, key, value)"
            " VALUES (%s, 'comms.sms', %s, '')",
            (message.id, message.key),
        )
    elif queue == "scheduled":
        connection.execute(
            "INSERT INTO producer.scheduled (message_id, topic, key, value, due_at)"
            " VALUES (%s, 'comms.sms', %s, '', now() + interval '1 hour')",
            (message.id, message.key),
        )


def ids(page: Any) -> list[str]:
    return [item["id"] for item in page["items"]]


async def test_a_message_and_its_events_have_the_names_of_the_contract(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    message = recent(1)
    merge.merge(connection, samples.delivered_life(message), {})
    found = await get(client, f"/v1/messages/{message.id}")
    assert list(found) == [
        "id",
        "tenant",
        "channel",
        "to",
        "status",
        "reason",
        "provider",
        "provider_message_id",
        "attempts",
        "customer_id",
        "workflow",
        "priority",
        "created_at",
        "updated_at",
        "send_at",
        "expires_at",
        "sent_at",
        "finished_at",
        "metadata",
        "mode",
        "events",
    ]
    assert [event["status"] for event in found["events"]] == [
        *("pending", "sending", "sent", "delivered")
    ]
    assert list(found["events"][2]) == [
        "id",
        "status",
        "reason",
        "attempt",
        "provider",
        "provider_message_id",
        "code",
        "detail",
        "response",
        "occurred_at",
        "recorded_at",
    ]
    assert found["events"][2]["response"] == '{"ok": true}'
    assert (found["to"], found["status"], found["attempts"]) == ("+12025550100", "delivered", 1)


async def test_paging_shows_every_message_once_newest_first(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    messages = [recent(n) for n in range(7)]
    merge.merge(connection, [events.queued(message) for message in messages[:5]], {})
    for message in messages[5:]:
        accept(connection, message, queue="outbox")
    seen: list[str] = []
    page = await get(client, "/v1/messages", limit=3)
    while page["next_cursor"]:
        seen += ids(page)
        page = await get(client, "/v1/messages", limit=3, cursor=page["next_cursor"])
    seen += ids(page)
    assert seen == [str(message.id) for message in reversed(messages)]


@pytest.mark.parametrize(("queue", "reason"), [("outbox", "queued"), ("scheduled", "scheduled")])
async def test_a_message_just_accepted_is_pending(
    client: httpx.AsyncClient, connection: merge.Connection, queue: str, reason: str
) -> None:
    message = recent(1)
    accept(connection, message, queue=queue)
    found = await get(client, f"/v1/messages/{message.id}")
    assert (found["status"], found["reason"], len(found["events"])) == ("pending", reason, 1)
    assert ids(await get(client, "/v1/messages", status="pending")) == [str(message.id)]
    assert ids(await get(client, "/v1/messages", reason=reason)) == [str(message.id)]
    assert ids(await get(client, "/v1/messages", status="failed")) == []
    merge.merge(connection, samples.delivered_life(message), {})
    assert (await get(client, f"/v1/messages/{message.id}"))["status"] == "delivered"
    assert ids(await get(client, "/v1/messages")) == [str(message.id)]


async def test_a_message_claimed_but_not_yet_recorded_does_not_vanish(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    message = samples.sms(at=utc_now())
    accept(connection, message, queue="none")
    assert ids(await get(client, "/v1/messages")) == [str(message.id)]


async def test_each_filter_chooses(client: httpx.AsyncClient, connection: merge.Connection) -> None:
    one = recent(1, to="+12025550101", customer_id="c9", workflow="w9")
    other = recent(60)
    merge.merge(connection, [events.queued(one), samples.refused(one, 1, 50)], {})
    merge.merge(connection, samples.delivered_life(other), {})
    between = (one.created_at + timedelta(seconds=10)).isoformat()
    for name, value in {
        "customer_id": "c9",
        "recipient": "+12025550101",
        "status": "failed",
        "reason": "invalid_recipient",
        "workflow": "w9",
        "until": between,
    }.items():
        assert ids(await get(client, "/v1/messages", **{name: value})) == [str(one.id)], name
    assert ids(await get(client, "/v1/messages", since=between)) == [str(other.id)]
    assert len(ids(await get(client, "/v1/messages", channel="sms", provider="simulated"))) == 2
    assert ids(await get(client, "/v1/messages", channel="email")) == []


async def test_messages_of_another_tenant_are_not_shown(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    theirs, waiting = recent(1, tenant="other"), recent(2, tenant="other")
    merge.merge(connection, samples.delivered_life(theirs), {})
    accept(connection, waiting, queue="outbox")
    assert ids(await get(client, "/v1/messages")) == []
    for message in (theirs, waiting):
        assert (await client.get(f"/v1/messages/{message.id}")).status_code == 404
    assert (await get(client, "/v1/stats"))["items"] == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/messages?cursor=nonsense", "cursor"),
        ("/v1/messages?cursor=%C3%A9", "cursor"),
        ("/v1/messages?limit=0", "limit"),
        ("/v1/messages?limit=201", "limit"),
        ("/v1/messages?status=gone", "status"),
        ("/v1/messages?since=yesterday", "since"),
        ("/v1/messages?customr_id=1", "customr_id"),
        ("/v1/stats?group_by=colour", "group_by"),
        ("/v1/messages/not-an-id", "message_id"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, path: str, field: str) -> None:
    response = await client.get(path)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_a_wrong_key_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/messages", headers={"Authorization": "Bearer no"})
    assert response.status_code == 401


async def test_statistics_count_and_measure(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    for n in range(20):
        merge.merge(connection, samples.delivered_life(recent(n)), {})
    bad = recent(30)
    merge.merge(connection, [events.queued(bad), samples.refused(bad, 1, 50)], {})
    found = (await get(client, "/v1/stats", group_by="channel,status"))["items"]
    assert [(item["channel"], item["status"], item["count"]) for item in found] == [
        ("sms", "delivered", 20),
        ("sms", "failed", 1),
    ]
    assert found[0]["latency_ms"]["p50"] == pytest.approx(80, rel=0.2)
    assert found[1]["latency_ms"] is None
    assert (await get(client, "/v1/stats", group_by=""))["items"][0]["count"] == 21
    hours = (await get(client, "/v1/stats", group_by="hour,reason,workflow"))["items"]
    assert sum(item["count"] for item in hours) == 21


async def test_channels_say_whether_messages_get_out(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    providers = [
        {
            "name": "simulated",
            "kind": "simulated",
            "readiness": "simulated",
            "problem": None,
            "weight": 100,
        }
    ]
    connection.execute(
        "INSERT INTO consumers.worker"
        " (owner, channel, in_flight, lag_messages, lag_seconds, providers)"
        " VALUES (%s, 'sms', 3, 7, 0.5, %s), (%s, 'push', 0, 0, 0, '[]')",
        (uuid4(), json.dumps(providers), uuid4()),
    )
    message = recent(1)
    merge.merge(connection, samples.delivered_life(message), {})
    merge.merge(connection, [samples.refused(recent(2), 1, 5)], {})
    found = {item["channel"]: item for item in (await get(client, "/v1/channels"))["items"]}
    sms = found["sms"]
    assert (sms["readiness"], sms["lag_messages"], sms["in_flight"]) == ("simulated", 7, 3)
    assert sms["last_error"]["detail"] == "no such number"
    assert sms["counts"] == {"delivered": 1, "failed": 1}
    assert sms["last_success"] is not None
    assert found["push"]["readiness"] == "setup_needed"
    assert (found["email"]["readiness"], found["email"]["problem"]) == (
        *("degraded", "no consumer is running"),
    )


async def test_a_provider_is_live_once_it_accepted_a_live_message(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    def report_of(name: str, readiness: str, **more: object) -> dict[str, object]:
        common = {"name": name, "kind": name, "readiness": readiness, "problem": None, "weight": 1}
        return common | {"evidence": f"of {name}"} | more

    report = [
        report_of("twilio", "configured"),
        report_of("vonage", "probed", probed_at="2030-01-01T09:00:00+00:00"),
        report_of("simulated", "simulated", for_tests=True),
    ]
    connection.execute(
        "INSERT INTO consumers.worker"
        " (owner, channel, in_flight, lag_messages, lag_seconds, providers)"
        " VALUES (%s, 'sms', 0, 0, 0, %s)",
        (uuid4(), json.dumps(report)),
    )

    async def sms() -> tuple[str, dict[str, tuple[str, str]]]:
        found = (await get(client, "/v1/channels"))["items"][0]
        providers = found["providers"]
        return found["readiness"], {p["name"]: (p["readiness"], p["evidence"]) for p in providers}

    assert await sms() == (
        "probed",
        {
            "twilio": ("configured", "of twilio"),
            "vonage": ("probed", "of vonage"),
            "simulated": ("simulated", "of simulated"),
        },
    )
    test = replace(recent(1), mode=Mode.TEST)
    response = ProviderResponse(provider_message_id="SM1")
    for number, message in enumerate((test, recent(2))):
        accepted = events.accepted(
            message, attempt=1, provider="twilio", at=message.created_at, response=response
        )
        merge.merge(connection, [accepted], {})
        readiness, providers = await sms()
        assert (readiness, providers["twilio"][0]) == [
            ("probed", "configured"),
            ("live", "live"),
        ][number]
    at = message.created_at.isoformat(timespec="seconds")
    assert providers["twilio"][1] == f"it took a message at {at}"


async def test_a_follower_that_reconnects_gets_what_it_missed(
    pool: AsyncConnectionPool, connection: merge.Connection
) -> None:
    feed = Feed(pool, heartbeat_seconds=30)
    first, second = recent(1), recent(2)

    async def take(count: int, after: Cursor | None = None) -> list[tuple[str, str, str]]:
        changes: list[tuple[str, str, str]] = []
        following = feed.follow("acme", after=after)
        async for change in following:
            if change is None:  # following has begun: no change from here on is missed
                merge.merge(connection, samples.delivered_life(recent(3, tenant="other")), {})
                merge.merge(connection, [events.queued(second)], {})
            else:
                changes.append((change.cursor, str(change.message_id), change.status))
            if len(changes) == count:
                break
        await following.aclose()  # type: ignore[attr-defined]
        return changes

    live = await asyncio.wait_for(take(1), 20)
    assert live[0][1:] == (str(second.id), "pending")
    merge.merge(connection, samples.delivered_life(first), {})
    missed = await asyncio.wait_for(take(4, Cursor.parse(live[0][0])), 20)
    assert [status for _, _, status in missed] == ["pending", "sending", "sent", "delivered"]


async def test_events_are_streamed_as_server_sent_events(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, connection: merge.Connection
) -> None:
    merge.merge(connection, [events.queued(recent(1))], {})
    stream = api._stream(Feed(pool), "acme", Cursor(0, 0))
    text = ""
    async for part in stream:
        text += part
        if "data:" in text:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    assert text.startswith("retry: 2000\n\n")
    assert "\nevent: status\n" in text
    assert json.loads(text.split("data: ")[1])["status"] == "pending"
