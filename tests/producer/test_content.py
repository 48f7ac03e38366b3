"""What the API tells of content: a text's parts, and every refusal by its field."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import async_pool
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
SHOWN = EMAIL | {"html": '<img src="cid:logo">', "attachments": [LOGO]}
BATCH = "/v1/messages/batch"
TWO_PARTS = {"count": 2, "encoding": "UCS-2", "units": 71}
POLICIES = {
    Channel.SMS: Policy(countries=frozenset({"US", "CN"}), parts=4),
    Channel.VOICE: Policy(countries=frozenset({"CA"})),
}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A program of the tenant `acme`, at an installation with policies."""
    pool = async_pool(database_url, size=2, name="test")
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
    ) as opened:
        yield opened
    await pool.close()


def kept(database_url: str) -> list[bytes]:
    """The values that wait in the outbox."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT value FROM producer.outbox").fetchall()
    return [bytes(row[0]) for row in rows]


async def test_a_texts_answer_says_what_networks_will_count(client: httpx.AsyncClient) -> None:
    keyed = SMS | {"body": "я" * 71, "idempotency_key": "k"}
    first = await client.post("/v1/messages", json=keyed)
    again = await client.post("/v1/messages", json=keyed)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["segments"] == again.json()["segments"] == TWO_PARTS
    call = await client.post("/v1/messages", json=VOICE | {"to": "+14165550100"})
    assert call.status_code == 202
    assert "segments" not in call.json()


async def test_the_openapi_document_shows_it(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    one = paths["/v1/messages"]["post"]
    assert [p["name"] for p in one["parameters"] if p["in"] == "query"] == ["validate"]
    answers = [paths[path]["post"]["responses"]["202"] for path in ("/v1/messages", BATCH)]
    shown = [answer["content"]["application/json"]["example"] for answer in answers]
    real = (await client.post("/v1/messages", json=SMS | {"body": "x" * 25})).json()
    assert shown[0].keys() <= real.keys()
    assert shown[0]["segments"] == shown[1]["results"][0]["segments"] == real["segments"]


async def test_each_of_a_batch_says_it_too(client: httpx.AsyncClient) -> None:
    batch = {"messages": [SMS, SMS | {"body": "я" * 71}, EMAIL]}
    results = (await client.post(BATCH, json=batch)).json()["results"]
    assert [result.get("segments") for result in results] == [
        {"count": 1, "encoding": "GSM-7", "units": 5},
        TWO_PARTS,
        None,
    ]


async def test_it_is_told_before_anything_is_sent_and_nothing_is_kept(
    client: httpx.AsyncClient, database_url: str
) -> None:
    asked = {"validate": "true"}
    found = await client.post("/v1/messages", json=SMS | {"body": "я" * 71}, params=asked)
    assert found.status_code == 200
    assert found.json() == {"valid": True, "channel": "sms", "segments": TWO_PARTS}
    wrong = await client.post("/v1/messages", json=SMS | {"to": "5"}, params=asked)
    assert wrong.status_code == 422
    unread = await client.post("/v1/messages", json=SMS, params={"validate": "perhaps"})
    assert unread.status_code == 422
    assert kept(database_url) == []


async def test_an_e_mails_unsubscription_and_images_stand_in_the_record(
    client: httpx.AsyncClient, database_url: str
) -> None:
    url = "https://example.com/u/1"
    answer = await client.post("/v1/messages", json=SHOWN | {"unsubscribe_url": url})
    assert answer.status_code == 202, answer.text
    message = Codec().decode(kept(database_url)[0], EmailMessage)
    assert (message.unsubscribe_url, message.attachments[0].content_id) == (url, "logo")


REFUSED: list[tuple[dict[str, Any], str]] = [
    # Text messages and calls
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
    (SHOWN | {"html": "<p>"}, "attachments[0].content_id"),
    (SHOWN | {"attachments": [LOGO, LOGO]}, "attachments[1].content_id"),
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


async def test_what_would_be_refused_later_is_refused_by_its_field(
    client: httpx.AsyncClient, database_url: str
) -> None:
    answers = [await client.post("/v1/messages", json=body) for body, _ in REFUSED]
    named = [
        (answer.status_code, [error["field"] for error in answer.json()["errors"]])
        for answer in answers
    ]
    assert named == [(422, [field]) for _, field in REFUSED]
    assert kept(database_url) == []


async def test_a_country_that_is_not_served_is_told_and_the_number_is_not(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/messages", json=SMS | {"to": "+4915112345678"})
    (error,) = answer.json()["errors"]
    assert "does not send to" in str(error)
    assert "15112345678" not in answer.text
