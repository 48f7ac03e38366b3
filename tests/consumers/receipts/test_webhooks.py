"""The receipt endpoint on a real broker and database: what it announces, and what it must not."""

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
from consumers.receipts import webhooks as receipts
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


class Listener:
    """Reads `comms.status` from its beginning, again and again."""

    def __init__(self, broker: Broker) -> None:
        self._consumer = broker.consumer(f"test-{uuid4()}", [STATUS])
        self._seen: list[tuple[str, StatusEvent]] = []

    def said_of(self, ids: set[UUID]) -> list[StatusEvent]:
        """What was announced of these messages, once something was of each."""
        for _ in range(300):
            self._read()
            found = [event for _, event in self._seen if event.message_id in ids]
            if {event.message_id for event in found} == ids:
                break
        assert all(key == str(event.message_id) for key, event in self._seen)
        return found

    def everything(self) -> set[UUID]:
        """The messages of which anything was announced so far."""
        self._read()
        return {event.message_id for _, event in self._seen}

    def close(self) -> None:
        self._consumer.close()

    def _read(self) -> None:
        for record in self._consumer.poll(500, 0.1):
            event = Codec().decode(record.value, StatusEvent)
            self._seen.append(((record.key or b"").decode(), event))


@pytest.fixture(scope="module")
def listener(broker: Broker) -> Iterator[Listener]:
    one = Listener(broker)
    yield one
    one.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def producer(broker: Broker) -> Iterator[EventProducer]:
    one = broker.producer()
    yield one
    one.close()


@pytest.fixture
async def client(
    pool: AsyncConnectionPool, producer: EventProducer
) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(pool, producer) as one:
        yield one


def client_of(pool: AsyncConnectionPool, producer: EventProducer) -> httpx.AsyncClient:
    """A client of an application with nothing but the endpoint; the provider's clock says NOW."""
    app = FastAPI()
    problems.install(app)
    parser = SimulatedReceipts(SECRET, lambda: NOW)
    parsers = {(Channel.SMS, name): parser for name in ("simulated", "other")}
    app.include_router(
        receipts.router(
            pool=pool,
            producer=producer,
            codec=Codec(),
            parsers=parsers,
            public_url="https://comms.example",
        )
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def attempted(pool: AsyncConnectionPool, *, attempts: int = 1) -> UUID:
    """A message that was sent through `simulated`, so many times."""
    message_id = new_message_id()
    async with pool.connection() as connection:
        for number in range(1, attempts + 1):
            await connection.execute(
                "INSERT INTO consumers.attempt VALUES (%s, %s, 'acme', 'sms', 'simulated', %s, %s)",
                (message_id, number, uuid4(), NOW),
            )
    return message_id


def said(message_id: UUID, **changes: object) -> dict[str, object]:
    """A receipt as the stub writes it."""
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


def counted(result: str, provider: str = "simulated") -> float:
    labels = {"channel": "sms", "provider": provider, "result": result}
    return REGISTRY.get_sample_value("comms_receipts_total", labels) or 0.0


async def test_a_receipt_is_announced_for_the_newest_attempt(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: Listener
) -> None:
    message_id = await attempted(pool, attempts=3)
    before = counted("delivered")
    assert (await post(client, said(message_id))).status_code == 204
    (event,) = listener.said_of({message_id})
    assert (event.tenant, event.attempt, event.provider) == ("acme", 3, "simulated")
    assert (event.status, event.reason) == (Status.DELIVERED, Reason.DELIVERED)
    assert (event.provider_message_id, event.occurred_at) == ("sim-1", NOW)
    assert counted("delivered") == before + 1


async def test_a_failure_carries_the_providers_words(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: Listener
) -> None:
    message_id = await attempted(pool)
    await post(client, said(message_id, status="failed", code="unreachable", detail="Switched off"))
    (event,) = listener.said_of({message_id})
    assert (event.status, event.reason) == (Status.FAILED, Reason.UNDELIVERED)
    assert (event.code, event.detail) == ("unreachable", "Switched off")


async def test_a_repeated_receipt_is_the_same_event(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: Listener
) -> None:
    message_id, last = await attempted(pool), await attempted(pool)
    for one in (message_id, message_id, last):
        await post(client, said(one))
    events = listener.said_of({message_id, last})
    assert len(events) >= 2
    assert len({event.id for event in events if event.message_id == message_id}) == 1


async def test_requests_that_come_together_are_all_announced(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: Listener
) -> None:
    ids = [await attempted(pool) for _ in range(200)]
    singles = [post(client, said(one)) for one in ids[:150]]
    many = post(client, *(said(one) for one in ids[150:]))
    answers = await asyncio.gather(*singles, many)
    assert {answer.status_code for answer in answers} == {204}
    assert len(listener.said_of(set(ids))) == 200


async def test_a_late_receipt_speaks_of_the_attempt_that_the_provider_answered(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: Listener
) -> None:
    message_id = await attempted(pool, attempts=3)
    async with pool.connection() as connection:
        for attempt, idempotency_attempt in ((1, "sim-1"), (2, "sim-2")):
            await connection.execute(
                "INSERT INTO consumers.outcome (message_id, attempt, status, reason,"
                " provider_message_id, occurred_at) VALUES (%s, %s, 'sent', 'accepted', %s, now())",
                (message_id, attempt, idempotency_attempt),
            )
    expected = {"sim-1": 1, "sim-2": 2, "sim-3": 3}
    for idempotency_attempt in expected:
        assert (await post(client, said(message_id, id=idempotency_attempt))).status_code == 204

    def all_heard() -> bool:
        found = listener.said_of({message_id})
        return {event.provider_message_id: event.attempt for event in found} == expected

    wait_for(all_heard, what="all heard of, each of its attempt")


async def test_a_message_nobody_knows_is_taken_and_counted(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: Listener
) -> None:
    unknown, known = new_message_id(), await attempted(pool)
    before = counted("unknown")
    assert (await post(client, said(unknown), said(known))).status_code == 204
    assert [event.message_id for event in listener.said_of({known})] == [known]
    assert unknown not in listener.everything()
    assert counted("unknown") == before + 1


async def test_a_provider_has_no_say_on_the_messages_of_another(
    client: httpx.AsyncClient, pool: AsyncConnectionPool
) -> None:
    message_id = await attempted(pool)
    before = counted("unknown", "other")
    answer = await post(client, said(message_id), path="/receipts/sms/other")
    assert answer.status_code == 204
    assert counted("unknown", "other") == before + 1


@pytest.mark.parametrize("header", ["", "t=1", "v1=00", "t=soon,v1=00", "t=²,v1=00"])
async def test_what_is_not_signed_is_forbidden(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, header: str
) -> None:
    body = json.dumps([said(await attempted(pool))]).encode()
    headers = {SIGNATURE_HEADER.encode(): header.encode("latin-1", "replace")}
    answer = await client.post(PATH, content=body, headers=headers)
    _is_problem(answer, 403)


async def test_a_changed_body_or_secret_is_forbidden(
    client: httpx.AsyncClient, pool: AsyncConnectionPool
) -> None:
    body = json.dumps([said(await attempted(pool))]).encode()
    signed = signature(SECRET, timestamp=int(NOW.timestamp()), body=body)
    changed = body.replace(b"delivered", b"failed")
    before = counted("forged")
    answer = await client.post(PATH, content=changed, headers={SIGNATURE_HEADER: signed})
    _is_problem(answer, 403)
    assert counted("forged") == before + 1


@pytest.mark.parametrize("age", [301, -301])
async def test_an_old_signature_is_forbidden(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, age: int
) -> None:
    message_id = await attempted(pool)
    _is_problem(await post(client, said(message_id), age=age), 403)
    assert (await post(client, said(message_id), age=age // 301 * 299)).status_code == 204


async def test_what_is_refused_is_not_announced(
    client: httpx.AsyncClient, pool: AsyncConnectionPool, listener: Listener
) -> None:
    forged, good = await attempted(pool), await attempted(pool)
    await post(client, said(forged), age=1000)
    await post(client, said(forged), said(good, status="exploded"))
    await post(client, said(good))
    assert listener.said_of({good})
    assert forged not in listener.everything()


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
async def test_what_is_signed_and_not_understood_is_a_bad_request(
    client: httpx.AsyncClient, change: dict[str, object]
) -> None:
    _is_problem(await post(client, said(new_message_id(), **change)), 400)


@pytest.mark.parametrize("path", ["/receipts/sms/nobody", "/receipts/pigeon/simulated"])
async def test_an_unknown_provider_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    _is_problem(await post(client, said(new_message_id()), path=path), 404)


async def test_too_much_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, content=bytes(receipts.MAX_BODY + 1))
    _is_problem(answer, 413)


async def test_without_a_broker_the_provider_is_to_say_it_again(
    pool: AsyncConnectionPool,
) -> None:
    away = Broker(
        {"bootstrap.servers": f"127.0.0.1:{closed_port()}", "delivery.timeout.ms": "300"}
    ).producer()
    async with client_of(pool, away) as client:
        known, unknown = said(await attempted(pool)), said(new_message_id())
        one, other = await asyncio.gather(post(client, known), post(client, unknown))
    _is_problem(one, 503)
    assert other.status_code == 204  # nothing of it was for the broker
    await asyncio.to_thread(away.close, 0.1)


async def test_without_a_database_the_provider_is_to_say_it_again(producer: EventProducer) -> None:
    url = f"postgresql://nobody@127.0.0.1:{closed_port()}/none"
    away: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url, min_size=0, max_size=1, open=False, timeout=0.3
    )
    await away.open()
    async with client_of(away, producer) as client:
        _is_problem(await post(client, said(new_message_id())), 503)
    await away.close()


def _is_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
