"""What a process may do that was stopped between a claim and its call, with a clock passed in."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import create_pool
from comms.platform.kafka import Broker
from comms.platform.settings import ChannelSettings, RoutingPolicy
from consumers.ledger.delivery import Delivery, Lease
from consumers.ledger.store import Claim, Ledger, Suppressions
from consumers.pipeline.acks import AckRouter
from consumers.pipeline.assembly import build_dispatcher
from consumers.pipeline.claiming import CLAIM_MAX_AGE
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


class Recording(Named):
    """A provider that takes everything, and knows what it took."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken: list[UUID] = []

    async def send(self, message: Message, attempt: Attempt) -> Outcome:
        self.taken.append(message.id)
        return Accepted()


class EndedLeases(LeaseProgress):
    """Puts every lease that ended into a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Queue[Lease]()

    def mark_done(self, lease: Lease) -> None:
        self.ended.put_nowait(lease)


class HeardLate(Ledger):
    """Its claims are made at once, and the process hears of them after `passes`."""

    def __init__(self, pool: AsyncConnectionPool, passes: Callable[[], None]) -> None:
        super().__init__(pool, channel=Channel.SMS, owner=uuid4())
        self._passes = passes

    async def claim(self, claims: Sequence[Claim]) -> dict[UUID, Suppressions]:
        ours = await super().claim(claims)
        self._passes()
        return ours


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=2, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, 1), (60.0, 0)])
async def test_a_claim_that_was_heard_of_late_is_not_called_under(
    pool: AsyncConnectionPool, broker: Broker, seconds: float, calls: int
) -> None:
    now = [0.0]
    provider, producer = Recording("p"), broker.producer(threaded=False)
    leases = EndedLeases()

    def passes() -> None:
        now[0] += seconds

    dispatcher = build_dispatcher(
        Channel.SMS,
        ChannelSettings(),
        ledger=HeardLate(pool, passes),
        router=Router([Route(provider, 100)], RoutingPolicy(), source=random.Random(1)),
        publisher=StatusPublisher(producer, CODEC, asyncio.get_running_loop()),
        health=ProviderHealth(),
        acks=AckRouter({}, leases),
        on_failure=lambda error: pytest.fail(str(error)),
        monotonic=lambda: now[0],
    )
    dispatcher.start()
    message = sms()
    dispatcher.submit(
        [Delivery(message, CODEC.encode(message, topic="comms.sms"), Lease(message.id))]
    )
    async with asyncio.timeout(60):
        await leases.ended.get()
    await dispatcher.stop(within=10)
    producer.close()
    assert len(provider.taken) == calls


async def test_what_follows_waits_until_the_call_elsewhere_has_begun_or_will_not(
    pool: AsyncConnectionPool, broker: Broker
) -> None:
    provider, producer = Recording("p"), broker.producer(threaded=False)
    first, second = (
        Delivery(message, CODEC.encode(message, topic="comms.sms"), Lease(message.id))
        for message in (sms(), sms())
    )
    elsewhere = Ledger(pool, channel=Channel.SMS, owner=uuid4())
    await elsewhere.claim([Claim(delivery=first, attempt=1, provider="p")])
    leases = EndedLeases()
    dispatcher = build_dispatcher(
        Channel.SMS,
        ChannelSettings(),
        ledger=Ledger(pool, channel=Channel.SMS, owner=uuid4()),
        router=Router([Route(provider, 100)], RoutingPolicy(), source=random.Random(1)),
        publisher=StatusPublisher(producer, CODEC, asyncio.get_running_loop()),
        health=ProviderHealth(),
        acks=AckRouter({}, leases),
        on_failure=lambda error: pytest.fail(str(error)),
    )
    dispatcher.start()
    dispatcher.submit([first, second])
    async with asyncio.timeout(60):
        assert await leases.ended.get() == first.source
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT extract(epoch FROM clock_timestamp() - claimed_at) FROM consumers.attempt"
                " WHERE message_id = %s",
                (first.message.id,),
            )
            [age] = await cursor.fetchone() or [0]
        assert await leases.ended.get() == second.source
    await dispatcher.stop(within=10)
    producer.close()
    assert age >= CLAIM_MAX_AGE
    assert provider.taken == [second.message.id]
