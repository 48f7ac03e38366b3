"""A process that was suspended between a claim and its call; the test passes in the clock."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import create_pool
from comms.platform.kafka import Broker
from comms.platform.settings import ChannelSettings, RoutingPolicy
from consumers.ledger.delivery import Delivery, DeliverySource, Lease
from consumers.ledger.store import Claim, Ledger, Suppressions
from consumers.pipeline.acks import AckRouter
from consumers.pipeline.assembly import build_dispatcher
from consumers.pipeline.claiming import CLAIM_MAX_AGE
from consumers.pipeline.dispatcher import Dispatcher
from consumers.pipeline.progress import LeaseProgress
from consumers.routing import Route, Router
from consumers.routing.health import ProviderHealth
from consumers.sdk.outcomes import Accepted, Outcome
from consumers.sdk.provider import Attempt
from consumers.status.publisher import StatusPublisher
from schemas.codec import Codec
from schemas.messages import Message
from schemas.vocabulary import Channel
from tests.consumers.harness import Named, sms

CODEC = Codec()


class RecordingProvider(Named):
    """A provider that accepts every message and keeps their ids."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.message_ids: list[UUID] = []

    async def send(self, message: Message, attempt: Attempt) -> Outcome:
        self.message_ids.append(message.id)
        return Accepted()


class RecordingAcks(AckRouter):
    """Keeps the sources that are reported, in order."""

    def __init__(self) -> None:
        super().__init__({}, LeaseProgress())
        self.sources = asyncio.Queue[DeliverySource]()

    def mark_done(self, source: DeliverySource) -> None:
        self.sources.put_nowait(source)


class SlowToReturnLedger(Ledger):
    """Makes claims at once, and calls `on_claim` before it returns them."""

    def __init__(self, pool: AsyncConnectionPool, on_claim: Callable[[], None]) -> None:
        super().__init__(pool, channel=Channel.SMS, owner=uuid4())
        self._on_claim = on_claim

    async def claim(self, claims: Sequence[Claim]) -> dict[UUID, Suppressions]:
        claimed = await super().claim(claims)
        self._on_claim()
        return claimed


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=2, name="test")
    await opened.open()
    yield opened
    await opened.close()


@asynccontextmanager
async def running_dispatcher(
    broker: Broker,
    ledger: Ledger,
    provider: RecordingProvider,
    acks: AckRouter,
    *,
    monotonic: Callable[[], float] = perf_counter,
) -> AsyncIterator[Dispatcher]:
    producer = broker.producer(threaded=False)
    dispatcher = build_dispatcher(
        Channel.SMS,
        ChannelSettings(),
        ledger=ledger,
        router=Router([Route(provider, 100)], RoutingPolicy(), source=random.Random(1)),
        publisher=StatusPublisher(producer, CODEC, asyncio.get_running_loop()),
        health=ProviderHealth(),
        acks=acks,
        on_failure=lambda error: pytest.fail(str(error)),
        monotonic=monotonic,
    )
    dispatcher.start()
    yield dispatcher
    await dispatcher.stop(within=10)
    producer.close()


def new_delivery() -> Delivery:
    message = sms()
    return Delivery(message, CODEC.encode(message, topic="comms.sms"), Lease(message.id))


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, 1), (60.0, 0)])
async def test_no_call_is_made_under_a_claim_that_is_too_old(
    pool: AsyncConnectionPool, broker: Broker, seconds: float, calls: int
) -> None:
    now = [0.0]

    def advance() -> None:
        now[0] += seconds

    ledger = SlowToReturnLedger(pool, advance)
    provider, acks = RecordingProvider("p"), RecordingAcks()
    async with running_dispatcher(
        broker, ledger, provider, acks, monotonic=lambda: now[0]
    ) as dispatcher:
        dispatcher.submit([new_delivery()])
        async with asyncio.timeout(60):
            await acks.sources.get()
    assert len(provider.message_ids) == calls


async def test_next_message_waits_until_a_call_elsewhere_has_begun_or_cannot_begin(
    pool: AsyncConnectionPool, broker: Broker
) -> None:
    first, second = new_delivery(), new_delivery()
    other_process = Ledger(pool, channel=Channel.SMS, owner=uuid4())
    await other_process.claim([Claim(delivery=first, attempt=1, provider="p")])
    ledger = Ledger(pool, channel=Channel.SMS, owner=uuid4())
    provider, acks = RecordingProvider("p"), RecordingAcks()
    async with running_dispatcher(broker, ledger, provider, acks) as dispatcher:
        dispatcher.submit([first, second])
        async with asyncio.timeout(60):
            assert await acks.sources.get() == first.source
            age = await claim_age(pool, first)
            assert await acks.sources.get() == second.source
    assert age >= CLAIM_MAX_AGE
    assert provider.message_ids == [second.message.id]


async def claim_age(pool: AsyncConnectionPool, delivery: Delivery) -> float:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT extract(epoch FROM clock_timestamp() - claimed_at) FROM consumers.attempt"
            " WHERE message_id = %s",
            (delivery.message.id,),
        )
        [age] = await cursor.fetchone() or [0]
        return float(age)
