"""The webhook endpoint with a real broker and database: the events it publishes, and when not."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from psycopg_pool import AsyncConnectionPool

from comms.platform import problems
from comms.platform.database import create_pool
from comms.platform.kafka import Broker, EventProducer
from consumers.receipts import webhooks
from consumers.simulator.adapter import SIGNATURE_HEADER, SimulatedReceipts, signature
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.ids import new_message_id
from schemas.topics import STATUS
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.contract.samples import SECRET, closed_port
from tests.waiting import wait_for

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PATH = "/receipts/sms/simulated"


class StatusReader:
    """Reads `comms.status` from its beginning, again and again."""

    def __init__(self, broker: Broker) -> None:
        self._consumer = broker.consumer(f"test-{uuid4()}", [STATUS])
        self._seen: list[tuple[str, StatusEvent]] = []

    def events_of(self, ids: set[UUID]) -> list[StatusEvent]:
        """Wait until each of these messages has an event, and return their events."""
        for _ in range(300):
            self._read()
            events = [event for _, event in self._seen if event.message_id in ids]
            if {event.message_id for event in events} == ids:
                break
        assert all(key == str(event.message_id) for key, event in self._seen)
        return events

    def message_ids(self) -> set[UUID]:
        """Return the messages that have an event so far."""
        self._read()
        return {event.message_id for _, event in self._seen}

    def close(self) -> None:
        self._consumer.close()

    def _read(self) -> None:
        for record in self._consumer.poll(500, 0.1):
            event = Codec().decode(record.value, StatusEvent)
            self._seen.append(((record.key or b"").decode(), event))


@pytest.fixture(scope="module")
def listener(broker: Broker) -> Iterator[StatusReader]:
    reader = StatusReader(broker)
    yield reader
    reader.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def producer(broker: Broker) -> Iterator[EventProducer]:
    opened = broker.producer()
    yield opened
    opened.close()


@pytest.fixture
async def client(
    pool: AsyncConnectionPool, producer: EventProducer
) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(pool, producer) as opened:
        yield opened


def client_of(pool: AsyncConnectionPool, producer: EventProducer) -> httpx.AsyncClient:
    """Build a client of an application that has only the endpoint; its time is NOW."""
    app = FastAPI()
    problems.install(app)
    parser = SimulatedReceipts(SECRET, lambda: NOW)
    parsers = {(Channel.SMS, name): parser for name in ("simulated", "other")}
    app.include_router(
        webhooks.router(
            pool=pool,
            producer=producer,
            codec=Codec(),
            parsers=parsers,
            public_url="https://comms.example",
        )
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def insert_attempts(pool: AsyncConnectionPool, *, attempts: int = 1) -> UUID:
    """Insert a message with so many attempts through `simulated`."""
    message_id = new_message_id()
    async with pool.connection() as connection:
        for number in range(1, attempts + 1):
            await connection.execute(
                "INSERT INTO consumers.attempt VALUES (%s, %s, 'acme', 'sms', 'simulated', %s, %s)",
                (message_id, number, uuid4(), NOW),
            )
    return message_id


def receipt(message_id: UUID, **changes: object) -> dict[str, object]:
    """Build a receipt as the simulated provider writes it."""
    values: dict[str, object] = {
        "id": "sim-1",
        "client_ref": str(message_id),
        "status": "delivered",
        "occurred_at": NOW.isoformat(),
    }
    return values | changes


async def post(
    client: httpx.AsyncClient, *items: dict[str, object], path: str = PATH, age: int = 0
) -> httpx.Response:
    body = json.dumps(items).encode()
    sent_at = int((NOW - timedelta(seconds=age)).timestamp())
    signed = {SIGNATURE_HEADER: signature(SECRET, timestamp=sent_at, body=body)}
    return await client.post(path, content=body, headers=signed)


def count_of(result: str, provider: str = "simulated") -> float:
    labels = {"channel": "sms", "provider": provider, "result": result}
    return REGISTRY.get_sample_value("comms_receipts_total", labels) or 0.0


async def test_a_receipt_is_published_for_the_newest_attempt(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: StatusReader
) -> None:
    message_id = await insert_attempts(pool, attempts=3)
    before = count_of("delivered")
    assert (await post(client, receipt(message_id))).status_code == 204
    (event,) = listener.events_of({message_id})
    assert (event.tenant, event.attempt, event.provider) == ("acme", 3, "simulated")
    assert (event.status, event.reason) == (Status.DELIVERED, Reason.DELIVERED)
    assert (event.provider_message_id, event.occurred_at) == ("sim-1", NOW)
    assert count_of("delivered") == before + 1


async def test_a_failure_carries_the_providers_code_and_detail(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: StatusReader
) -> None:
    message_id = await insert_attempts(pool)
    await post(
        client, receipt(message_id, status="failed", code="unreachable", detail="Switched off")
    )
    (event,) = listener.events_of({message_id})
    assert (event.status, event.reason) == (Status.FAILED, Reason.UNDELIVERED)
    assert (event.code, event.detail) == ("unreachable", "Switched off")


async def test_a_repeated_receipt_is_the_same_event(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: StatusReader
) -> None:
    message_id, last = await insert_attempts(pool), await insert_attempts(pool)
    for message in (message_id, message_id, last):
        await post(client, receipt(message))
    events = listener.events_of({message_id, last})
    assert len(events) >= 2
    assert len({event.id for event in events if event.message_id == message_id}) == 1


async def test_concurrent_requests_are_all_published(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: StatusReader
) -> None:
    ids = [await insert_attempts(pool) for _ in range(200)]
    singles = [post(client, receipt(message)) for message in ids[:150]]
    many = post(client, *(receipt(message) for message in ids[150:]))
    answers = await asyncio.gather(*singles, many)
    assert {answer.status_code for answer in answers} == {204}
    assert len(listener.events_of(set(ids))) == 200


async def test_a_late_receipt_is_matched_to_its_attempt_by_provider_id(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: StatusReader
) -> None:
    message_id = await insert_attempts(pool, attempts=3)
    async with pool.connection() as connection:
        for attempt, provider_id in ((1, "sim-1"), (2, "sim-2")):
            await connection.execute(
                "INSERT INTO consumers.outcome (message_id, attempt, status, reason,"
                " provider_message_id, occurred_at) VALUES (%s, %s, 'sent', 'accepted', %s, now())",
                (message_id, attempt, provider_id),
            )
    expected = {"sim-1": 1, "sim-2": 2, "sim-3": 3}
    for provider_id in expected:
        assert (await post(client, receipt(message_id, id=provider_id))).status_code == 204

    def all_published() -> bool:
        events = listener.events_of({message_id})
        return {event.provider_message_id: event.attempt for event in events} == expected

    wait_for(all_published, what="an event of each attempt")


async def test_a_receipt_of_an_unknown_message_is_accepted_and_counted(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: StatusReader
) -> None:
    unknown, known = new_message_id(), await insert_attempts(pool)
    before = count_of("unknown")
    assert (await post(client, receipt(unknown), receipt(known))).status_code == 204
    assert [event.message_id for event in listener.events_of({known})] == [known]
    assert unknown not in listener.message_ids()
    assert count_of("unknown") == before + 1


async def test_a_provider_cannot_report_on_messages_of_another(
    client: httpx.AsyncClient, pool: AsyncConnectionPool
) -> None:
    message_id = await insert_attempts(pool)
    before = count_of("unknown", "other")
    answer = await post(client, receipt(message_id), path="/receipts/sms/other")
    assert answer.status_code == 204
    assert count_of("unknown", "other") == before + 1


@pytest.mark.parametrize("header", ["", "t=1", "v1=00", "t=soon,v1=00", "t=²,v1=00"])
async def test_an_unsigned_request_is_forbidden(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, header: str
) -> None:
    body = json.dumps([receipt(await insert_attempts(pool))]).encode()
    headers = {SIGNATURE_HEADER.encode(): header.encode("latin-1", "replace")}
    answer = await client.post(PATH, content=body, headers=headers)
    _assert_problem(answer, 403)


async def test_a_changed_body_or_secret_is_forbidden(
    client: httpx.AsyncClient, pool: AsyncConnectionPool
) -> None:
    body = json.dumps([receipt(await insert_attempts(pool))]).encode()
    signed = signature(SECRET, timestamp=int(NOW.timestamp()), body=body)
    changed = body.replace(b"delivered", b"failed")
    before = count_of("forged")
    answer = await client.post(PATH, content=changed, headers={SIGNATURE_HEADER: signed})
    _assert_problem(answer, 403)
    assert count_of("forged") == before + 1


@pytest.mark.parametrize("age", [301, -301])
async def test_an_old_signature_is_forbidden(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, age: int
) -> None:
    message_id = await insert_attempts(pool)
    _assert_problem(await post(client, receipt(message_id), age=age), 403)
    assert (await post(client, receipt(message_id), age=age // 301 * 299)).status_code == 204


async def test_a_rejected_request_publishes_nothing(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: StatusReader
) -> None:
    forged, good = await insert_attempts(pool), await insert_attempts(pool)
    await post(client, receipt(forged), age=1000)
    await post(client, receipt(forged), receipt(good, status="exploded"))
    await post(client, receipt(good))
    assert listener.events_of({good})
    assert forged not in listener.message_ids()


@pytest.mark.parametrize(
    "change",
    [
        {"client_ref": "not an id"},
        {"status": "exploded"},
        {"occurred_at": "yesterday"},
        {"occurred_at": "2026-11-23T12:00:00"},
    ],
    ids=str,
)
async def test_a_signed_request_that_is_not_understood_is_a_bad_request(
    client: httpx.AsyncClient, change: dict[str, object]
) -> None:
    _assert_problem(await post(client, receipt(new_message_id(), **change)), 400)


@pytest.mark.parametrize("path", ["/receipts/sms/unknown", "/receipts/pigeon/simulated"])
async def test_an_unknown_provider_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    _assert_problem(await post(client, receipt(new_message_id()), path=path), 404)


async def test_a_body_that_is_too_large_is_rejected(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, content=bytes(webhooks.MAX_BODY + 1))
    _assert_problem(answer, 413)


async def test_without_a_broker_the_provider_must_repeat(
    pool: AsyncConnectionPool,
) -> None:
    unavailable = Broker(
        {"bootstrap.servers": f"127.0.0.1:{closed_port()}", "delivery.timeout.ms": "300"}
    ).producer()
    async with client_of(pool, unavailable) as client:
        known, unknown = receipt(await insert_attempts(pool)), receipt(new_message_id())
        first, second = await asyncio.gather(post(client, known), post(client, unknown))
    _assert_problem(first, 503)
    assert second.status_code == 204  # it has no event to publish
    await asyncio.to_thread(unavailable.close, 0.1)


async def test_without_a_database_the_provider_must_repeat(producer: EventProducer) -> None:
    url = f"postgresql://user@127.0.0.1:{closed_port()}/none"
    unavailable: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url, min_size=0, max_size=1, open=False, timeout=0.3
    )
    await unavailable.open()
    async with client_of(unavailable, producer) as client:
        _assert_problem(await post(client, receipt(new_message_id())), 503)
    await unavailable.close()


def _assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
