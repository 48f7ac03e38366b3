"""The content of messages at the API: segments of text messages, and a field for each error."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import create_pool
from producer import api
from schemas.codec import Codec
from schemas.messages import EmailMessage
from schemas.rules import Policy
from schemas.vocabulary import Channel

SMS: dict[str, Any] = {"channel": "sms", "to": "+12025550100", "body": "hello"}
VOICE: dict[str, Any] = {"channel": "voice", "to": "+12025550100", "text": "hello"}
EMAIL: dict[str, Any] = {"channel": "email", "to": "ann@example.com", "subject": "Hi", "text": "x"}
PUSH: dict[str, Any] = {"channel": "push", "to": "a", "title": "Hi", "body": "hello"}
LOGO = {
    "filename": "logo.png",
    "content_type": "image/png",
    "content": base64.b64encode(b"PNG").decode(),
    "content_id": "logo",
}
WITH_LOGO = EMAIL | {"html": '<img src="cid:logo">', "attachments": [LOGO]}
BATCH = "/v1/messages/batch"
TWO_PARTS = {"count": 2, "encoding": "UCS-2", "units": 71}
POLICIES = {
    Channel.SMS: Policy(countries=frozenset({"US", "CN"}), parts=4),
    Channel.VOICE: Policy(countries=frozenset({"CA"})),
}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client with an API key of `acme`, of an installation with policies."""
    pool = create_pool(database_url, size=2, name="test")
    await pool.open()
    with psycopg.connect(database_url, autocommit=True) as connection:
        key = keys.create(connection, "acme", "test")
    app = FastAPI()
    problems.install(app)
    app.include_router(
        api.router(pool=pool, codec=Codec(), authenticator=Authenticator(pool), policies=POLICIES)
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://comms",
        headers={"Authorization": f"Bearer {key}"},
    ) as client:
        yield client
    await pool.close()


def queued_values(database_url: str) -> list[bytes]:
    """Return the encoded messages in the outbox."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT value FROM producer.outbox").fetchall()
    return [bytes(row[0]) for row in rows]


async def test_the_response_has_the_segments_of_a_text_message(client: httpx.AsyncClient) -> None:
    keyed = SMS | {"body": "я" * 71, "idempotency_key": "k"}
    first = await client.post("/v1/messages", json=keyed)
    replay = await client.post("/v1/messages", json=keyed)
    assert (first.status_code, replay.status_code) == (202, 200)
    assert first.json()["segments"] == replay.json()["segments"] == TWO_PARTS
    voice = await client.post("/v1/messages", json=VOICE | {"to": "+14165550100"})
    assert voice.status_code == 202
    assert "segments" not in voice.json()


async def test_the_openapi_document_has_an_example_with_segments(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    operation = paths["/v1/messages"]["post"]
    assert [p["name"] for p in operation["parameters"] if p["in"] == "query"] == ["validate"]
    documented = [paths[path]["post"]["responses"]["202"] for path in ("/v1/messages", BATCH)]
    examples = [item["content"]["application/json"]["example"] for item in documented]
    response = (await client.post("/v1/messages", json=SMS | {"body": "x" * 25})).json()
    assert examples[0].keys() <= response.keys()
    assert examples[0]["segments"] == response["segments"]
    assert examples[1]["results"][0]["segments"] == response["segments"]


async def test_each_result_of_a_batch_has_its_segments(client: httpx.AsyncClient) -> None:
    batch = {"messages": [SMS, SMS | {"body": "я" * 71}, EMAIL]}
    results = (await client.post(BATCH, json=batch)).json()["results"]
    assert [result.get("segments") for result in results] == [
        {"count": 1, "encoding": "GSM-7", "units": 5},
        TWO_PARTS,
        None,
    ]


async def test_validate_returns_the_segments_and_stores_nothing(
    client: httpx.AsyncClient, database_url: str
) -> None:
    validate = {"validate": "true"}
    valid = await client.post("/v1/messages", json=SMS | {"body": "я" * 71}, params=validate)
    assert valid.status_code == 200
    assert valid.json() == {"valid": True, "channel": "sms", "segments": TWO_PARTS}
    wrong = await client.post("/v1/messages", json=SMS | {"to": "5"}, params=validate)
    assert wrong.status_code == 422
    malformed = await client.post("/v1/messages", json=SMS, params={"validate": "perhaps"})
    assert malformed.status_code == 422
    assert queued_values(database_url) == []


async def test_the_record_has_the_unsubscribe_url_and_the_content_id(
    client: httpx.AsyncClient, database_url: str
) -> None:
    url = "https://example.com/u/1"
    response = await client.post("/v1/messages", json=WITH_LOGO | {"unsubscribe_url": url})
    assert response.status_code == 202, response.text
    message = Codec().decode(queued_values(database_url)[0], EmailMessage)
    assert (message.unsubscribe_url, message.attachments[0].content_id) == (url, "logo")


INVALID: list[tuple[dict[str, Any], str]] = [
    # Text messages and voice calls
    (SMS | {"to": "+12025"}, "to"),
    (SMS | {"to": "+19005551234"}, "to"),
    (SMS | {"to": "+8621123456"}, "to"),
    (SMS | {"to": "+4915112345678"}, "to"),
    (VOICE, "to"),
    (SMS | {"to": "+12025551234", "from": "ACME"}, "from"),
    (SMS | {"body": "x" * 1601}, "body"),
    (SMS | {"body": "я" * 300}, "body"),
    # E-mails
    (EMAIL | {"unsubscribe_url": "http://example.com/u"}, "unsubscribe_url"),
    (
        EMAIL
        | {
            "unsubscribe_url": "https://example.com/u",
            "headers": {"List-Unsubscribe": "<https://example.com/u>"},
        },
        "headers",
    ),
    (EMAIL | {"headers": {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}}, "headers"),
    (EMAIL | {"html": '<img src="cid:logo">'}, "html"),
    (WITH_LOGO | {"html": "<p>"}, "attachments[0].content_id"),
    (WITH_LOGO | {"attachments": [LOGO, LOGO]}, "attachments[1].content_id"),
    # Notifications
    (PUSH | {"platform": "apns", "to": ["ab" * 32, "ExpoPushToken[a]"]}, "to[1]"),
    (PUSH | {"platform": "expo", "to": "ab" * 32}, "to[0]"),
    (PUSH | {"platform": "fcm", "data": {"google.x": "1"}}, "data"),
    (PUSH | {"platform": "apns", "to": "ab" * 32, "data": {"aps": "1"}}, "data"),
    (PUSH | {"platform": "apns", "to": "ab" * 32, "body": "x" * 4050}, "data"),
    (PUSH | {"platform": "expo", "to": "ExpoPushToken[a]", "body": "x" * 4060}, "data"),
    (PUSH | {"platform": "fcm", "body": "x" * 4095}, "data"),
    (PUSH | {"body": "x" * 4095}, "data"),
    (
        PUSH
        | {
            "to": {"endpoint": "https://p.example/1", "keys": {"p256dh": "a", "auth": "b"}},
            "body": "x" * 3980,
        },
        "data",
    ),
]


async def test_content_that_a_channel_would_refuse_is_refused_with_its_field(
    client: httpx.AsyncClient, database_url: str
) -> None:
    responses = [await client.post("/v1/messages", json=body) for body, _ in INVALID]
    errors = [
        (response.status_code, [error["field"] for error in response.json()["errors"]])
        for response in responses
    ]
    assert errors == [(422, [field]) for _, field in INVALID]
    assert queued_values(database_url) == []


async def test_the_error_of_an_excluded_country_does_not_show_the_number(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/v1/messages", json=SMS | {"to": "+4915112345678"})
    (error,) = response.json()["errors"]
    assert "does not send to" in str(error)
    assert "15112345678" not in response.text
