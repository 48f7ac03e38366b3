"""Recipients who must not be reached: the list, its API, and the refusal at delivery."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool
from structlog.testing import capture_logs

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import create_pool
from comms.platform.kafka import Broker
from comms.platform.metrics import suppressions_bypassed_total
from consumers.suppression import api, normal
from consumers.suppression.store import SuppressionList
from schemas.ids import new_message_id
from schemas.vocabulary import Channel, Reason, Status, SuppressionReason
from tests.consumers.harness import channel, listener, publish, settings_for, simulator, sms

PATH = "/v1/suppressions"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    made = create_pool(database_url, size=3, name="test")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def client(database_url: str, pool: AsyncConnectionPool) -> AsyncIterator[httpx.AsyncClient]:
    with psycopg.connect(database_url, autocommit=True) as session:
        key = keys.create(session, "acme", "test")
    app = FastAPI()
    problems.install(app)
    app.include_router(api.router(pool=pool, authenticator=Authenticator(pool)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://comms",
        headers={"Authorization": f"Bearer {key}"},
    ) as made:
        yield made


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        (Channel.EMAIL, "Ada <Ada@Example.COM>", "ada@example.com"),
        (Channel.SMS, "+1 (202) 555-0100", "+12025550100"),
        (Channel.PUSH, " tOken ", "tOken"),
    ],
)
def test_a_recipient_has_one_form(kind: Channel, written: str, expected: str) -> None:
    assert normal(kind, written) == expected


def test_a_suppressed_recipient_is_not_called_and_the_message_says_why(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    left_alone, others = sms(to="+12025550177"), sms(to="+12025550177", tenant="other")
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(
            "INSERT INTO consumers.suppression (tenant, channel, recipient, reason, created_at)"
            " VALUES ('acme', 'sms', '+12025550177', 'opt_out', '2026-01-31')"
        )
        with simulator(settings) as provider, listener(broker) as heard, channel(settings):
            publish(broker, left_alone, others)
            event = heard.wait_for(left_alone.id, Status.FAILED)
            heard.wait_for(others.id, Status.SENT)
            assert event.reason is Reason.SUPPRESSED
            assert event.detail == "opt_out since 2026-01-31"
            assert provider.calls(left_alone.id) == 0
            session.execute("DELETE FROM consumers.suppression")
            again = sms(to="+12025550177")
            publish(broker, again)
            heard.wait_for(again.id, Status.SENT)


def test_what_law_requires_is_sent_even_so_and_the_history_and_the_log_say_why(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    counted = suppressions_bypassed_total.labels("sms")._value.get()
    required = sms(to="+12025550178", bypass_suppression=True)
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(
            "INSERT INTO consumers.suppression (tenant, channel, recipient, reason, created_at)"
            " VALUES ('acme', 'sms', '+12025550178', 'opt_out', '2026-01-31')"
        )
    with (
        capture_logs() as logged,
        simulator(settings) as provider,
        listener(broker) as heard,
        channel(settings),
    ):
        publish(broker, required)
        heard.wait_for(required.id, Status.SENT)
        begun = heard.wait_for(required.id, Status.SENDING)
        assert provider.calls(required.id) == 1
    assert begun.detail is not None
    assert "suppression bypassed" in begun.detail
    assert "opt_out since 2026-01-31" in begun.detail
    [line] = [line for line in logged if line["event"] == "suppression.bypassed"]
    assert line["message_id"] == str(required.id)
    assert required.to not in str(line)
    assert suppressions_bypassed_total.labels("sms")._value.get() == counted + 1


async def test_what_is_added_is_listed_and_can_be_removed(client: httpx.AsyncClient) -> None:
    added = await client.post(
        PATH, json={"channel": "email", "recipient": "Ada@Example.com", "reason": "complaint"}
    )
    assert added.status_code == 200
    assert added.json()["recipient"] == "ada@example.com"
    listed = await client.get(PATH, params={"channel": "email", "recipient": "ADA@example.com"})
    assert [item["reason"] for item in listed.json()["items"]] == ["complaint"]
    params = {"channel": "email", "recipient": "ada@EXAMPLE.com"}
    removed = await client.delete(PATH, params=params)
    assert removed.status_code == 204
    assert (await client.get(PATH)).json() == {"items": [], "next_cursor": None}


async def test_the_list_comes_in_pages(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await client.post(PATH, json={"channel": "sms", "recipient": f"+1202555010{number}"})
    seen, cursor = [], None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(PATH, params=query)).json()
        seen += [item["recipient"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"+1202555010{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"channel": "sms", "recipient": "nobody"}, "recipient"),
        ({"channel": "email", "recipient": ""}, "recipient"),
        ({"channel": "fax", "recipient": "x"}, "channel"),
        ({"channel": "sms", "recipient": "+12025550100", "reason": "mood"}, "reason"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, body: dict[str, str], field: str
) -> None:
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_nobody_without_a_key_sees_the_list(client: httpx.AsyncClient) -> None:
    answer = await client.get(PATH, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


async def test_a_receipts_word_puts_the_messages_recipient_on_the_list(
    database_url: str, pool: AsyncConnectionPool
) -> None:
    message_id: UUID = new_message_id()
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(
            "INSERT INTO producer.message (id, tenant, body_hash, channel, recipient, priority,"
            " created_at) VALUES (%s, 'acme', '', 'email', 'Ada@example.com', 'normal', %s)",
            (message_id, datetime.now(UTC)),
        )
    suppressed = SuppressionList(pool)
    found = [(message_id, SuppressionReason.HARD_BOUNCE)]
    await suppressed.add_from_receipts(found)
    await suppressed.add_from_receipts(found)
    [entry] = await suppressed.page(
        "acme", channel=Channel.EMAIL, recipient=None, after=("", ""), limit=10
    )
    assert (entry.recipient, entry.reason, entry.message_id) == (
        "ada@example.com",
        SuppressionReason.HARD_BOUNCE,
        message_id,
    )
