"""The HTTP API on a real database: which messages are accepted, replayed and scheduled."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import httpx2 as httpx
import psycopg
import pytest

from schemas.codec import Codec
from schemas.messages import EmailMessage, PushMessage, SmsMessage
from tests.producer.requests import EMAIL, PUSH, SMS, VOICE, count, post, stored, wrong_fields


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


async def test_bypass_suppression_is_written_to_the_record(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    keyed = SMS | {"idempotency_key": "recall-1"}
    assert (await post(client, keyed | {"bypass_suppression": True})).status_code == 202
    assert Codec().decode(stored(database, "comms.sms"), SmsMessage).bypass_suppression
    assert (await post(client, keyed)).status_code == 409
    assert wrong_fields(await post(client, SMS | {"bypass_suppression": "yes"})) == {
        "bypass_suppression"
    }


async def test_the_fields_of_the_request_are_written_to_the_record(
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


async def test_a_malformed_traceparent_is_ignored(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    assert (await post(client, SMS, traceparent="nonsense")).status_code == 202
    assert Codec().decode(stored(database, "comms.sms"), SmsMessage).traceparent is None


async def test_push_accepts_a_token_a_list_or_a_subscription(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    subscription_keys = {"p256dh": "BNc", "auth": "aQ"}
    subscription = {
        "endpoint": "https://push.example/1",
        "expirationTime": None,
        "keys": subscription_keys,
    }
    assert (await post(client, PUSH | {"to": subscription})).status_code == 202
    message = Codec().decode(stored(database, "comms.push"), PushMessage)
    assert message.recipient == "https://push.example/1"
    assert (await post(client, PUSH | {"to": ["a", "b"]})).status_code == 202
    assert wrong_fields(await post(client, PUSH | {"to": []})) == {"to"}
    assert wrong_fields(await post(client, PUSH | {"to": ["a", ""]})) == {"to[1]"}
    insecure = subscription | {"endpoint": "http://push.example/1"}
    assert wrong_fields(await post(client, PUSH | {"to": insecure})) == {"to.endpoint"}


async def test_the_same_key_and_body_returns_the_original_message(
    client: httpx.AsyncClient,
) -> None:
    first = await post(client, SMS | {"idempotency_key": "k"})
    replay = await post(client, SMS, Idempotency_Key="k")
    assert (first.status_code, replay.status_code) == (202, 200)
    assert "Idempotent-Replayed" not in first.headers
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert replay.json() == first.json()


async def test_the_same_key_with_another_body_is_a_conflict(client: httpx.AsyncClient) -> None:
    first = await post(client, SMS, Idempotency_Key="k")
    conflict = await post(client, SMS | {"body": "other"}, Idempotency_Key="k")
    assert conflict.status_code == 409
    assert first.json()["id"] in conflict.json()["detail"]
    assert conflict.json()["errors"][0]["field"] == "idempotency_key"


async def test_fifty_concurrent_posts_with_one_key_make_one_message(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    responses = await asyncio.gather(*(post(client, SMS, Idempotency_Key="k") for _ in range(50)))
    assert sorted(response.status_code for response in responses) == [200] * 49 + [202]
    assert len({response.json()["id"] for response in responses}) == 1
    assert (count(database, "message"), count(database, "outbox")) == (1, 1)


async def test_concurrent_posts_share_transactions(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    await post(client, SMS)  # the API key is cached from here on
    await asyncio.gather(*(post(client, SMS) for _ in range(100)))
    row = database.execute("SELECT count(DISTINCT xid), count(*) FROM producer.outbox").fetchone()
    assert row is not None
    assert row[1] == 101
    assert row[0] < 50


async def test_a_message_with_a_future_send_at_is_scheduled(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    response = (await post(client, SMS | {"send_at": later})).json()
    assert (response["status"], response["reason"]) == ("pending", "scheduled")
    assert (count(database, "outbox"), count(database, "scheduled")) == (0, 1)


async def test_a_batch_returns_one_result_per_message_in_order(
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
    first, wrong, replay, conflict, not_an_object, last = response.json()["results"]
    assert first["status"] == last["status"] == "pending"
    assert replay["id"] == first["id"]
    assert (wrong["error"]["status"], wrong["error"]["errors"][0]["field"]) == (422, "to")
    assert (conflict["error"]["status"], not_an_object["error"]["status"]) == (409, 422)
    assert count(database, "message") == 2


async def test_a_batch_of_1000_messages_is_accepted(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    response = await client.post("/v1/messages/batch", json={"messages": [SMS] * 1000})
    assert len({result["id"] for result in response.json()["results"]}) == 1000
    assert count(database, "outbox") == 1000


async def test_the_openapi_document_describes_every_channel(client: httpx.AsyncClient) -> None:
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


async def test_the_examples_of_the_openapi_document_are_accepted(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/messages"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        assert (await post(client, example["value"])).status_code == 202
