"""How a message is meant: by its own word and by its key, at the door and wherever it is sent."""

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.kafka import Broker
from consumers.redrive import api as redrive
from producer import api
from schemas.codec import Codec
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from tests.producer.test_api import SMS, client, database, pool, post, stored, wrong_fields

__all__ = ["client", "database", "pool"]


def with_key(app: FastAPI, database: psycopg.Connection, mode: str) -> httpx.AsyncClient:
    key = keys.create(database, "acme", "developers", mode)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://comms",
        headers={"Authorization": f"Bearer {key}"},
    )


@pytest.fixture
def app(pool: AsyncConnectionPool, broker: Broker) -> FastAPI:
    app, authenticator, codec = FastAPI(), Authenticator(pool), Codec()
    problems.install(app)
    app.include_router(api.router(pool=pool, codec=codec, authenticator=authenticator))
    producer = broker.producer()
    app.include_router(
        redrive.router(pool=pool, producer=producer, codec=codec, authenticator=authenticator)
    )
    return app


@pytest.mark.parametrize(
    ("key", "asked", "meant"),
    [
        ("live", None, "live"),
        ("live", "live", "live"),
        ("live", "test", "test"),
        ("live", "simulated", "simulated"),
        ("test", None, "simulated"),
        ("test", "simulated", "simulated"),
    ],
)
async def test_a_message_is_meant_as_its_key_and_its_word_say(
    app: FastAPI, database: psycopg.Connection, key: str, asked: str | None, meant: str
) -> None:
    async with with_key(app, database, key) as client:
        answer = await post(client, SMS | ({"mode": asked} if asked else {}))
    assert answer.status_code == 202
    assert answer.json()["mode"] == meant
    assert Codec().decode(stored(database, "comms.sms"), SmsMessage).mode == meant


@pytest.mark.parametrize("asked", ["live", "test"])
async def test_with_a_key_for_tests_nothing_else_can_be_asked_for(
    app: FastAPI, database: psycopg.Connection, asked: str
) -> None:
    async with with_key(app, database, "test") as client:
        assert wrong_fields(await post(client, SMS | {"mode": asked})) == {"mode"}
        batch = await client.post(
            "/v1/messages/batch", json={"messages": [SMS, SMS | {"mode": asked}]}
        )
    first, second = batch.json()["results"]
    assert "id" in first
    assert [error["field"] for error in second["error"]["errors"]] == ["mode"]


async def test_a_key_for_tests_sends_nothing_again(
    app: FastAPI, database: psycopg.Connection
) -> None:
    message_id = new_message_id()
    asked: list[tuple[str, dict[str, object]]] = [
        (f"/v1/messages/{message_id}/resend", {}),
        (f"/v1/messages/{message_id}/resolve", {"as": "resend"}),
        ("/v1/resends", {"where": "status = 'failed'", "nonce": str(message_id)}),
    ]
    async with with_key(app, database, "test") as client:
        for path, body in asked:
            answer = await client.post(path, json=body)
            assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")
