"""The mode of a message, from its `mode` field and the API key of the request."""

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
from tests.producer.requests import SMS, post, stored, wrong_fields


def client_with_key(app: FastAPI, database: psycopg.Connection, mode: str) -> httpx.AsyncClient:
    key = keys.create(database, "acme", "developers", mode=mode)
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
    ("key", "requested", "expected"),
    [
        ("live", None, "live"),
        ("live", "live", "live"),
        ("live", "test", "test"),
        ("live", "simulated", "simulated"),
        ("test", None, "simulated"),
        ("test", "simulated", "simulated"),
    ],
)
async def test_the_mode_comes_from_the_request_and_the_api_key(
    app: FastAPI, database: psycopg.Connection, key: str, requested: str | None, expected: str
) -> None:
    async with client_with_key(app, database, key) as client:
        response = await post(client, SMS | ({"mode": requested} if requested else {}))
    assert response.status_code == 202
    assert response.json()["mode"] == expected
    assert Codec().decode(stored(database, "comms.sms"), SmsMessage).mode == expected


@pytest.mark.parametrize("requested", ["live", "test"])
async def test_a_key_for_tests_allows_simulated_messages_only(
    app: FastAPI, database: psycopg.Connection, requested: str
) -> None:
    async with client_with_key(app, database, "test") as client:
        assert wrong_fields(await post(client, SMS | {"mode": requested})) == {"mode"}
        batch = await client.post(
            "/v1/messages/batch", json={"messages": [SMS, SMS | {"mode": requested}]}
        )
    first, second = batch.json()["results"]
    assert "id" in first
    assert [error["field"] for error in second["error"]["errors"]] == ["mode"]


async def test_a_key_for_tests_cannot_resend(app: FastAPI, database: psycopg.Connection) -> None:
    message_id = new_message_id()
    calls: list[tuple[str, dict[str, object]]] = [
        (f"/v1/messages/{message_id}/resend", {}),
        (f"/v1/messages/{message_id}/resolve", {"as": "resend"}),
        ("/v1/resends", {"where": "status = 'failed'", "nonce": str(message_id)}),
    ]
    async with client_with_key(app, database, "test") as client:
        for path, body in calls:
            response = await client.post(path, json=body)
            assert (response.status_code, response.json()["title"]) == (403, "Forbidden")
