"""Cancelling over HTTP: which messages can be cancelled, and which are too late."""

from typing import Any
from uuid import uuid4

import httpx2 as httpx
import psycopg
import pytest

from comms.platform import keys
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.vocabulary import Status
from tests.producer.requests import SMS, count, post, stored
from tests.producer.samples import sms


@pytest.mark.parametrize("send_at", [None, "2100-01-01T00:00:00Z"])
async def test_a_message_without_attempts_is_cancelled(
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
    repeated = await client.post(f"/v1/messages/{message_id}/cancel")
    assert repeated.status_code == 409


async def test_a_message_with_a_started_attempt_cannot_be_cancelled(
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
    ("status", "reason", "expected"),
    [
        ("sending", "provider_error", 200),
        ("sending", "ambiguous", 409),
        ("unknown", "ambiguous", 409),
        ("failed", "retries_exhausted", 409),
        ("sent", "accepted", 409),
        (None, None, 409),
    ],
)
async def test_a_deferred_message_is_cancelled_if_nothing_was_sent(
    client: httpx.AsyncClient,
    database: psycopg.Connection,
    status: str | None,
    reason: str | None,
    expected: int,
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    database.execute("DELETE FROM producer.outbox")  # a consumer has claimed it
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
    response = await client.post(f"/v1/messages/{message_id}/cancel")
    assert response.status_code == expected
    deferred = database.execute("SELECT count(*) FROM consumers.deferred").fetchone()
    assert deferred == ((0,) if expected == 200 else (1,))
    if expected == 200:
        assert response.json()["attempts"] == 1
        event = Codec().decode(stored(database, "comms.status"), StatusEvent)
        assert (event.status, event.attempt) == (Status.CANCELLED, 1)
        assert (await client.post(f"/v1/messages/{message_id}/cancel")).status_code == 409


async def test_a_message_with_an_ambiguous_attempt_cannot_be_cancelled(
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


async def test_a_message_that_left_the_ledger_cannot_be_cancelled(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    database.execute("DELETE FROM producer.outbox")  # claimed, and deleted from the ledger since
    assert (await client.post(f"/v1/messages/{message_id}/cancel")).status_code == 409


async def test_a_message_of_another_tenant_is_not_found(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    message_id = (await post(client, SMS)).json()["id"]
    other_tenant = {"Authorization": f"Bearer {keys.create(database, 'zeta', 'test')}"}
    response = await client.post(f"/v1/messages/{message_id}/cancel", headers=other_tenant)
    unknown = await client.post(f"/v1/messages/{sms().id}/cancel")
    assert (response.status_code, unknown.status_code) == (404, 404)
