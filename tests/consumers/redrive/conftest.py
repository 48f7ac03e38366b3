"""Fixtures of the redrive tests: a ledger of one process, the API, and messages that ended."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import create_pool
from comms.platform.kafka import Broker, EventProducer
from consumers.ledger.delivery import Delivery, Offset
from consumers.ledger.store import Claim, Ledger, Settlement
from consumers.redrive import api
from schemas.codec import Codec
from schemas.events import NO_RESPONSE
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.harness import sms

CODEC = Codec()
Session = psycopg.Connection[tuple[object, ...]]
Play = Callable[..., Awaitable[Delivery]]


@pytest.fixture
def database(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as session:
        yield session


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=6, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def ledger(pool: AsyncConnectionPool) -> Ledger:
    return Ledger(pool, channel=Channel.SMS, owner=uuid4())


@pytest.fixture
def key(database: Session) -> str:
    return keys.create(database, "acme", "support desk")


@pytest.fixture
def producer(broker: Broker) -> Iterator[EventProducer]:
    opened = broker.producer()
    yield opened
    opened.close()


@pytest.fixture
async def client(
    pool: AsyncConnectionPool, producer: EventProducer, key: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A client, with the key, of an application that has the redrive routes only."""
    app = FastAPI()
    problems.install(app)
    authenticator = Authenticator(pool)
    app.include_router(
        api.router(pool=pool, producer=producer, codec=CODEC, authenticator=authenticator)
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://comms",
        headers={"Authorization": f"Bearer {key}"},
    ) as http_client:
        yield http_client


@pytest.fixture
def play(ledger: Ledger) -> Play:
    """Makes a message with an attempt that has an outcome, or is still running."""

    async def played(
        status: Status | None,
        reason: Reason = Reason.ACCEPTED,
        *,
        attempt: int = 1,
        message: SmsMessage | None = None,
        retry_after: float | None = None,
    ) -> Delivery:
        delivery = delivery_of(message or sms())
        await ledger.claim([Claim(delivery=delivery, attempt=attempt, provider="simulated")])
        if status is not None:
            settled = settlement(delivery, attempt, status, reason=reason, after=retry_after)
            await ledger.settle([settled])
        return delivery

    return played


def delivery_of(message: SmsMessage) -> Delivery:
    value = CODEC.encode(message, topic="comms.sms")
    return Delivery(message, value, Offset(("comms.sms", 0), 0, 1))


def settlement(
    delivery: Delivery,
    attempt: int,
    status: Status,
    *,
    reason: Reason,
    after: float | None = None,
) -> Settlement:
    return Settlement(
        delivery=delivery,
        attempt=attempt,
        status=status,
        reason=reason,
        response=NO_RESPONSE,
        occurred_at=datetime.now(UTC),
        retry_after=after,
    )
