"""The HTTP API over a real database: what is accepted, answered again, refused and withdrawn."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import async_pool
from producer import api
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.messages import EmailMessage, PushMessage, SmsMessage
from schemas.vocabulary import Status
from tests.producer.samples import sms

SMS = {"channel": "sms", "to": "+12025550100", "body": "hello"}
EMAIL = {"channel": "email", "to": "Ann <ann@example.com>", "subject": "Hi", "text": "hello"}
PUSH = {"channel": "push", "to": "simulator:delivered", "title": "Hi", "body": "hello"}
VOICE = {"channel": "voice", "to": "+12025550100", "text": "hello"}


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = async_pool(database_url, size=6, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def client(
    pool: AsyncConnectionPool, database: psycopg.Connection
) -> AsyncIterator[httpx.AsyncClient]:
    """A program of the tenant `acme`."""
    app = FastAPI()
    problems.install(app)
    app.include_router(api.router(pool=pool, codec=Codec(), authenticator=Authenticator(pool)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://comms",
        headers={"Authorization": f"Bearer {keys.create(database, 'acme', 'test')}"},
    ) as opened:
        yield opened


async def post(client: httpx.AsyncClient, body: object, **headers: str) -> httpx.Response:
    return await client.post(
        "/v1/messages",
        json=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def wrong_fields(response: httpx.Response) -> set[str]:
    assert response.status_code == 422, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    return {error["field"] for error in response.json()["errors"]}


def count(database: psycopg.Connection, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM producer.{}").format(sql.Identifier(table))
    row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def stored(database: psycopg.Connection, topic: str) -> bytes:
    row = database.execute(
        "SELECT value FROM producer.outbox WHERE topic = %s", (topic,)
    ).fetchone()
    assert row is not None
    return bytes(row[0])


@pytest.mark.parametrize("body", [SMS, EMAIL, PUSH, VOICE])
async def test_a_message_is_accepted_and_queued(
    client: httpx.AsyncClient, database: psycopg.Connection, body: dict[str, str]
) -> None:
    response = await post(client, body)
    assert response.status_code == 202, response.text
    answer = response.json()
    assert response.headers["Location"] == f"/v1/messages/{answer['id']}"
    assert (answer["status"], answer["reason"]) == ("pending", "queued")
    assert (answer["channel"], answer["tenant"]) == (body["channel"], "acme")
    assert database.execute("SELECT topic FROM producer.outbox").fetchall() == [
        (f"comms.{body['channel']}",)
    ]


async def test_a_wish_to_bypass_the_suppression_list_stands_in_the_record(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    keyed = SMS | {"idempotency_key": "recall-1"}
    assert (await post(client, keyed | {"bypass_suppression": True})).status_code == 202
    assert Codec().decode(stored(database, "comms.sms"), SmsMessage).bypass_suppression
    assert (await post(client, keyed)).status_code == 409
    assert wrong_fields(await post(client, SMS | {"bypass_suppression": "yes"})) == {
        "bypass_suppression"
    }


async def test_what_was_asked_stands_in_the_record(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    attachment = {"filename": "a.txt", "content_type": "text/plain", "content": "aGk="}
    await post(
        client, EMAIL | {"from": "b@example.com", "attachments": [attachment]}, traceparent=trace
    )
    message = Codec().decode(stored(database, "comms.email"), EmailMessage)
    assert (message.sender, message.traceparent) == ("b@example.com", trace)
    assert (message.attachments[0].content, message.recipient) == (b"hi", "ann@example.com")


async def test_a_malformed_trace_is_no_reason_to_refuse(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    assert (await post(client, SMS, traceparent="nonsense")).status_code == 202
    assert Codec().decode(stored(database, "comms.sms"), SmsMessage).traceparent is None


async def test_push_is_asked_by_token_list_or_subscription(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    keys_ = {"p256dh": "BNc", "auth": "aQ"}
    browser = {"endpoint": "https://push.example/1", "expirationTime": None, "keys": keys_}
    assert (await post(client, PUSH | {"to": browser})).status_code == 202
    message = Codec().decode(stored(database, "comms.push"), PushMessage)
    assert message.recipient == "https://push.example/1"
    assert (await post(client, PUSH | {"to": ["a", "b"]})).status_code == 202
    assert wrong_fields(await post(client, PUSH | {"to": []})) == {"to"}
    assert wrong_fields(await post(client, PUSH | {"to": ["a", ""]})) == {"to[1]"}
    http = browser | {"endpoint": "http://push.example/1"}
    assert wrong_fields(await post(client, PUSH | {"to": http})) == {"to.endpoint"}


async def test_the_same_key_again_is_the_original(client: httpx.AsyncClient) -> None:
    first = await post(client, SMS | {"idempotency_key": "k"})
    again = await post(client, SMS, Idempotency_Key="k")
    assert (first.status_code, again.status_code) == (202, 200)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()


async def test_the_same_key_with_another_body_is_a_conflict(client: httpx.AsyncClient) -> None:
    first = await post(client, SMS, Idempotency_Key="k")
    other = await post(client, SMS | {"body": "other"}, Idempotency_Key="k")
    assert other.status_code == 409
    assert first.json()["id"] in other.json()["detail"]
    assert other.json()["errors"][0]["field"] == "idempotency_key"


async def test_two_different_keys_are_refused(client: httpx.AsyncClient) -> None:
    response = await post(client, SMS | {"idempotency_key": "a"}, Idempotency_Key="b")
    assert wrong_fields(response) == {"idempotency_key"}


async def test_fifty_at_once_with_one_key_make_one_message(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    responses = await asyncio.gather(*(post(client, SMS, Idempotency_Key="k") for _ in range(50)))
    assert sorted(response.status_code for response in responses) == [200] * 49 + [202]
    assert len({response.json()["id"] for response in responses}) == 1
    assert (count(database, "message"), count(database, "outbox")) == (1, 1)


async def test_posts_that_arrive_together_share_transactions(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    await post(client, SMS)  # the key is known from here on
    await asyncio.gather(*(post(client, SMS) for _ in range(100)))
    row = database.execute("SELECT count(DISTINCT xid), count(*) FROM producer.outbox").fetchone()
    assert row is not None
    assert row[1] == 101
    assert row[0] < 50


async def test_a_message_for_later_is_scheduled(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    answer = (await post(client, SMS | {"send_at": later})).json()
    assert (answer["status"], answer["reason"]) == ("pending", "scheduled")
    assert (count(database, "outbox"), count(database, "scheduled")) == (0, 1)


WRONG: list[tuple[object, set[str]]] = [
    ([], {"body"}),
    ({}, {"channel"}),
    (SMS | {"channel": "fax"}, {"channel"}),
    ({"channel": "sms"}, {"to", "body"}),
    (SMS | {"too": 1}, {"too"}),
    (SMS | {"to": 12025550100}, {"to"}),
    (SMS | {"to": "0100", "body": ""}, {"to", "body"}),
    (SMS | {"priority": "urgent", "on_doubt": "x"}, {"priority", "on_doubt"}),
    (SMS | {"send_at": "2030-01-01T00:00:00"}, {"send_at"}),
    (SMS | {"send_at": 1900000000}, {"send_at"}),
    (SMS | {"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at"}),
    (SMS | {"metadata": {"a": 1}}, {"metadata.a"}),
    (SMS | {"metadata": {"a": "\0"}}, {"metadata"}),
    (SMS | {"idempotency_key": ""}, {"idempotency_key"}),
    (EMAIL | {"subject": "a\r\nBcc: b@example.com"}, {"subject"}),
    (EMAIL | {"cc": "b@example.com"}, {"cc"}),
    (
        EMAIL | {"attachments": [{"filename": "a", "content_type": "a/b"}]},
        {"attachments[0].content"},
    ),
    (VOICE | {"repeat": True}, {"repeat"}),
    (VOICE | {"text": None}, {"text"}),
]


async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    named = [wrong_fields(await post(client, body)) for body, _ in WRONG]
    assert named == [fields for _, fields in WRONG]
    assert count(database, "message") == 0


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
async def test_what_is_not_json_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    assert wrong_fields(await client.post("/v1/messages", content=content)) == {"body"}


async def test_a_lone_surrogate_is_refused(client: httpx.AsyncClient) -> None:
    content = json.dumps(SMS | {"body": "\ud800"}).encode()
    assert wrong_fields(await client.post("/v1/messages", content=content)) == {"body"}


async def test_without_a_valid_key_nobody_enters(client: httpx.AsyncClient) -> None:
    response = await post(client, SMS, Authorization="Bearer wrong")
    assert response.status_code == 401


async def test_too_large_is_413_declared_or_streamed(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1024 * 1024

    declared = await client.post("/v1/messages", content=b" " * (11 * 1024 * 1024))
    streamed = await client.post("/v1/messages", content=chunks())
    file = b64encode(bytes(5 * 1024 * 1024 + 1)).decode()
    attachment = {"filename": "a", "content_type": "text/plain", "content": file}
    attached = await post(client, EMAIL | {"attachments": [attachment]})
    assert [r.status_code for r in (declared, streamed, attached)] == [413] * 3
    assert attached.json()["errors"][0]["field"] == "attachments"


async def test_a_batch_answers_each_in_order(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    messages = [
        SMS | {"idempotency_key": "a"},
        SMS | {"to": "5"},
        SMS | {"idempotency_key": "a"},
        SMS | {"idempotency_key": "a", "body": "other"},
        7,
        PUSH,
    ]
    response = await client.post("/v1/messages/batch", json={"messages": messages})
    assert response.status_code == 202, response.text
    first, bad, again, conflict, no_object, last = response.json()["results"]
    assert first["status"] == last["status"] == "pending"
    assert again["id"] == first["id"]
    assert (bad["error"]["status"], bad["error"]["errors"][0]["field"]) == (422, "to")
    assert (conflict["error"]["status"], no_object["error"]["status"]) == (409, 422)
    assert count(database, "message") == 2


@pytest.mark.parametrize("messages", [[], [SMS] * 1001, {}, None])
async def test_a_batch_is_a_list_of_1_to_1000(client: httpx.AsyncClient, messages: object) -> None:
    response = await client.post("/v1/messages/batch", json={"messages": messages})
    assert wrong_fields(response) == {"messages"}


async def test_a_thousand_in_a_batch_are_accepted(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    response = await client.post("/v1/messages/batch", json={"messages": [SMS] * 1000})
    assert len({result["id"] for result in response.json()["results"]}) == 1000
    assert count(database, "outbox") == 1000


@pytest.mark.parametrize("send_at", [None, "2100-01-01T00:00:00Z"])
async def test_a_message_not_yet_attempted_is_withdrawn(
    client: httpx.AsyncClient, database: psycopg.Connection, send_at: str | None
) -> None:
    message_id = (await post(client, SMS | {"send_at": send_at})).json()["id"]
    response = await client.post(f"/v1/messages/{message_id}/cancel")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert (answer["id"], answer["status"]) == (message_id, "cancelled")
    assert (count(database, "outbox"), count(database, "scheduled")) == (1, 0)
    event = Codec().decode(stored(database, "comms.status"), StatusEvent)
    assert (str(event.message_id), event.status) == (message_id, Status.CANCELLED)
    assert event.recipient == SMS["to"]
    again = await client.post(f"/v1/messages/{message_id}/cancel")
    assert again.status_code == 409


async def test_an_attempt_that_has_begun_cannot_be_withdrawn(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    database.execute(
        "INSERT INTO consumers.attempt VALUES (%s, 1, 'acme', 'sms', 'p', %s, now())",
        (message_id, uuid4()),
    )
    assert (await client.post(f"/v1/messages/{message_id}/cancel")).status_code == 409
    assert count(database, "outbox") == 1


@pytest.mark.parametrize(
    ("status", "reason", "answer"),
    [
        ("sending", "provider_error", 200),
        ("sending", "ambiguous", 409),
        ("unknown", "ambiguous", 409),
        ("failed", "retries_exhausted", 409),
        ("sent", "accepted", 409),
        (None, None, 409),
    ],
)
async def test_what_waits_to_be_tried_again_is_withdrawn_if_nothing_was_sent(
    client: httpx.AsyncClient,
    database: psycopg.Connection,
    status: str | None,
    reason: str | None,
    answer: int,
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    database.execute("DELETE FROM producer.outbox")  # claimed, and its row gone
    database.execute(
        "INSERT INTO consumers.attempt VALUES (%s, 1, 'acme', 'sms', 'p', %s, now())",
        (message_id, uuid4()),
    )
    database.execute(
        "INSERT INTO consumers.deferred (message_id, channel, value, due_at)"
        " VALUES (%s, 'sms', '', now())",
        (message_id,),
    )
    if status is not None:
        database.execute(
            "INSERT INTO consumers.outcome (message_id, attempt, status, reason, occurred_at)"
            " VALUES (%s, 1, %s, %s, now())",
            (message_id, status, reason),
        )
    found = await client.post(f"/v1/messages/{message_id}/cancel")
    assert found.status_code == answer
    waits = database.execute("SELECT count(*) FROM consumers.deferred").fetchone()
    assert waits == ((0,) if answer == 200 else (1,))
    if answer == 200:
        assert found.json()["attempts"] == 1
        event = Codec().decode(stored(database, "comms.status"), StatusEvent)
        assert (event.status, event.attempt) == (Status.CANCELLED, 1)
        assert (await client.post(f"/v1/messages/{message_id}/cancel")).status_code == 409


async def test_a_message_that_may_have_been_sent_once_is_not_withdrawn(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    for attempt, reason in ((1, "ambiguous"), (2, "provider_error")):
        database.execute(
            "INSERT INTO consumers.attempt VALUES (%s, %s, 'acme', 'sms', 'p', %s, now())",
            (message_id, attempt, uuid4()),
        )
        database.execute(
            "INSERT INTO consumers.outcome (message_id, attempt, status, reason, occurred_at)"
            " VALUES (%s, %s, 'sending', %s, now())",
            (message_id, attempt, reason),
        )
    assert (await client.post(f"/v1/messages/{message_id}/cancel")).status_code == 409


async def test_a_message_long_gone_cannot_be_withdrawn(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    database.execute("DELETE FROM producer.outbox")  # claimed, and its ledger dropped since
    assert (await client.post(f"/v1/messages/{message_id}/cancel")).status_code == 409


async def test_nobody_withdraws_anothers_message(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    foreign = {"Authorization": f"Bearer {keys.create(database, 'zeta', 'test')}"}
    response = await client.post(f"/v1/messages/{message_id}/cancel", headers=foreign)
    unknown = await client.post(f"/v1/messages/{sms().id}/cancel")
    assert (response.status_code, unknown.status_code) == (404, 404)


async def test_a_database_that_is_away_is_503_and_nothing_is_half_done(
    client: httpx.AsyncClient, database: psycopg.Connection, pool: AsyncConnectionPool
) -> None:
    await post(client, SMS)
    database.execute("ALTER TABLE producer.outbox RENAME TO away")
    refused = await asyncio.gather(*(post(client, SMS) for _ in range(3)), return_exceptions=True)
    assert not any(isinstance(r, httpx.Response) and r.status_code == 202 for r in refused)
    database.execute("ALTER TABLE producer.away RENAME TO outbox")
    assert (count(database, "message"), count(database, "outbox")) == (1, 1)
    await pool.close()
    response = await post(client, SMS)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert count(database, "message") == 1


async def test_the_openapi_document_shows_every_field(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/messages"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert [shape["title"] for shape in schema["oneOf"]] == [
        "SmsRequest",
        "EmailRequest",
        "PushRequest",
        "VoiceRequest",
    ]
    assert "from" in schema["oneOf"][0]["properties"]
    assert "#/$defs" not in json.dumps(document)


async def test_the_examples_shown_are_accepted(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/messages"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        assert (await post(client, example["value"])).status_code == 202
