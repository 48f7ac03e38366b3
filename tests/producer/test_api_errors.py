"""The errors of the HTTP API: each names the field, and nothing is written."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator

import httpx2 as httpx
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from tests.producer.requests import EMAIL, SMS, VOICE, count, post, wrong_fields

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


async def test_each_wrong_field_is_named(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    fields = [wrong_fields(await post(client, body)) for body, _ in WRONG]
    assert fields == [expected for _, expected in WRONG]
    assert count(database, "message") == 0


async def test_two_different_keys_in_one_request_are_refused(client: httpx.AsyncClient) -> None:
    response = await post(client, SMS | {"idempotency_key": "a"}, Idempotency_Key="b")
    assert wrong_fields(response) == {"idempotency_key"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
async def test_a_body_that_is_not_json_is_refused(
    client: httpx.AsyncClient, content: bytes
) -> None:
    assert wrong_fields(await client.post("/v1/messages", content=content)) == {"body"}


async def test_a_lone_surrogate_is_refused(client: httpx.AsyncClient) -> None:
    content = json.dumps(SMS | {"body": "\ud800"}).encode()
    assert wrong_fields(await client.post("/v1/messages", content=content)) == {"body"}


async def test_an_invalid_api_key_is_refused(client: httpx.AsyncClient) -> None:
    response = await post(client, SMS, Authorization="Bearer wrong")
    assert response.status_code == 401


async def test_a_large_body_is_413_declared_or_streamed(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1024 * 1024

    declared = await client.post("/v1/messages", content=b" " * (11 * 1024 * 1024))
    streamed = await client.post("/v1/messages", content=chunks())
    content = b64encode(bytes(5 * 1024 * 1024 + 1)).decode()
    attachment = {"filename": "a", "content_type": "text/plain", "content": content}
    with_attachment = await post(client, EMAIL | {"attachments": [attachment]})
    assert [r.status_code for r in (declared, streamed, with_attachment)] == [413] * 3
    assert with_attachment.json()["errors"][0]["field"] == "attachments"


@pytest.mark.parametrize("messages", [[], [SMS] * 1001, {}, None])
async def test_a_batch_must_have_1_to_1000_messages(
    client: httpx.AsyncClient, messages: object
) -> None:
    response = await client.post("/v1/messages/batch", json={"messages": messages})
    assert wrong_fields(response) == {"messages"}


async def test_a_lost_database_is_503_and_writes_nothing_partially(
    client: httpx.AsyncClient, database: psycopg.Connection, pool: AsyncConnectionPool
) -> None:
    await post(client, SMS)
    database.execute("ALTER TABLE producer.outbox RENAME TO hidden")
    responses = await asyncio.gather(*(post(client, SMS) for _ in range(3)), return_exceptions=True)
    assert not any(isinstance(r, httpx.Response) and r.status_code == 202 for r in responses)
    database.execute("ALTER TABLE producer.hidden RENAME TO outbox")
    assert (count(database, "message"), count(database, "outbox")) == (1, 1)
    await pool.close()
    response = await post(client, SMS)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert count(database, "message") == 1
