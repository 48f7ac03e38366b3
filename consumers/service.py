"""The composition of a channel's process: everything it is made of is put together here, once.

`comms run sms` (or `python -m consumers.sms`) calls `run_channel` on its main thread, which then
waits. Each lane's Kafka consumer has a thread of its own; calls, ledger and announcements live on
one event loop on a further one.
"""

import asyncio
import gc
import random
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import structlog
import uvloop
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseError, async_pool
from comms.platform.health import HealthServer
from comms.platform.kafka import Broker, EventProducer
from comms.platform.registry import codec_of
from comms.platform.settings import ChannelSettings, Settings
from consumers.ledger.partitions import maintain_partitions
from consumers.ledger.store import Ledger
from consumers.ledger.unpublished import UnpublishedEvents
from consumers.pipeline.acks import AckRouter
from consumers.pipeline.decoding import Decoder
from consumers.pipeline.deferred import DeferredFeed
from consumers.pipeline.dispatcher import Dispatcher
from consumers.pipeline.poller import DRAIN_SECONDS, LanePoller
from consumers.pipeline.recovery import Recovery
from consumers.receipts.poller import ReceiptPoller
from consumers.receipts.processor import ReceiptProcessor
from consumers.receipts.timeouts import ReceiptTimeouts
from consumers.registry import (
    build_or_unconfigured,
    capabilities_of,
    has_idempotency_key,
    has_probe,
    providers_with_receipts,
)
from consumers.routing import Route, Router
from consumers.routing.health import ProviderHealth
from consumers.routing.rate_limit import Allowance
from consumers.routing.sharing import Sharing
from consumers.sdk.provider import Provider
from consumers.sdk.receipt_polling import PollableProvider
from consumers.sdk.receipt_stream import StreamingProvider
from consumers.status.publisher import PolledProducer, StatusPublisher
from consumers.status.reporter import Load, Reporter
from schemas.vocabulary import Channel, Priority

log = structlog.get_logger(__name__)

T = TypeVar("T")
# Records fetched ahead for each call that may run. Many, because messages to one recipient wait for
# one another, and should not keep those to others from being seen.
OPEN_PER_CALL = 40


def run_channel(channel: Channel, settings: Settings, stop: threading.Event) -> None:
    """Deliver the channel's messages until `stop` is set, then drain and return.

    Raises:
        SettingsError: a provider's table is wrong, or an address is missing.
        TooManyBadRecordsError: the topic's records cannot be processed.
        DatabaseRefusedError: the ledger's tables are not what this version expects.
    """
    _calm_collector()
    with _Loop() as loop:
        process = loop.call(_assemble(channel, settings, loop.loop, stop))
        health = HealthServer(settings.http_host, settings.http_port, process.problems)
        try:
            health.start()
            log.info("service.started", channel=channel)
            process.origins.run(stop, process.failed)
        finally:
            health.stop()
            loop.call(process.close())
            process.producer.close()
    process.raise_defect()


run_sms = partial(run_channel, Channel.SMS)
run_email = partial(run_channel, Channel.EMAIL)
run_push = partial(run_channel, Channel.PUSH)
run_voice = partial(run_channel, Channel.VOICE)


def _calm_collector() -> None:
    """Thousands of messages in flight are no garbage: look for cycles less often than every 700
    allocations, and never again among what the imports left."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="calls", daemon=True)

    def __enter__(self) -> "_Loop":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result()


@dataclass(slots=True, kw_only=True)
class _Process:
    """The parts of a running channel."""

    origins: AckRouter
    failed: Callable[[BaseException], None]
    dispatcher: Dispatcher
    feed: DeferredFeed
    reporter: Reporter
    routes: list[Route]
    producer: EventProducer
    pool: AsyncConnectionPool
    tasks: list[asyncio.Task[None]]
    defects: list[BaseException]

    def problems(self) -> list[str]:
        """What keeps the channel from delivering."""
        found = []
        if not self.origins.reachable:
            found.append("Kafka does not answer")
        if self.reporter.database_problem is not None:
            found.append(f"PostgreSQL: {self.reporter.database_problem}")
        return found

    def raise_defect(self) -> None:
        """End with the error that stopped the process, if one did."""
        if self.defects:
            raise self.defects[0]

    async def close(self) -> None:
        """Finish what has begun and release everything; runs on the loop."""
        await self.dispatcher.stop(within=DRAIN_SECONDS)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.producer.flush(10)
        try:
            await self.feed.finish()
            await self.reporter.leave()
        except DatabaseError as error:
            log.warning("service.left_untidy", problem=str(error))
        for route in self.routes:
            await route.provider.close()
        await self.pool.close()


async def _assemble(
    channel: Channel,
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    stop: threading.Event,
) -> _Process:
    configured = settings.channels[channel]
    broker, owner = Broker(settings.need_kafka()), uuid4()
    pool = async_pool(settings.need_database(), size=6, name=channel)
    routes = _routes(channel, settings, configured)
    codec = codec_of(settings)
    await pool.open()
    for route in routes:
        await route.provider.open()

    producer, health, origins = (
        broker.producer(threaded=False),
        ProviderHealth(),
        AckRouter(channel),
    )
    announcer = StatusPublisher(producer, codec, loop)
    ledger = Ledger(pool, channel=channel, owner=owner)
    intake = Decoder(channel, codec, configured.policy)
    defects: list[BaseException] = []

    def failed(error: BaseException) -> None:
        log.error("service.defect", exc_info=error)
        defects.append(error)
        stop.set()

    limits = {p.name: p.rate_limit for p in configured.providers if p.rate_limit is not None}
    allowance = Allowance(pool, limits, channel=channel)
    router = Router(
        routes,
        configured.routing,
        source=random.SystemRandom(),
        has_allowance=allowance.permits,
        spend=allowance.spend,
        refund=allowance.refund,
    )
    sharing = Sharing(pool, router, channel=channel, policy=configured.routing)
    dispatcher = Dispatcher(
        channel=channel,
        settings=configured,
        ledger=ledger,
        router=router,
        announcer=announcer,
        health=health,
        done=origins.done,
        abandoned=origins.abandoned,
        is_current=origins.is_current,
        failed=failed,
    )
    feed = DeferredFeed(ledger, intake, dispatcher)
    recovery = Recovery(
        ledger,
        UnpublishedEvents(pool, channel=channel),
        intake,
        announcer,
        doubt_after=dispatcher.doubt_after,
    )
    runners = [
        LanePoller(
            channel=channel,
            lane=lane,
            broker=broker,
            producer=producer,
            intake=Decoder(channel, codec, configured.policy),
            dispatcher=dispatcher,
            announcer=announcer,
            loop=loop,
            most_open=configured.concurrency * OPEN_PER_CALL,
        )
        for lane in Priority
    ]
    origins.begin_with(runners, feed)
    overdue = ReceiptTimeouts(
        pool,
        announcer,
        channel=channel,
        providers=providers_with_receipts(channel, configured.providers),
        timeout_hours=configured.receipt_timeout_hours,
    )
    reporter = Reporter(
        pool,
        channel=channel,
        owner=owner,
        routes=routes,
        router=router,
        health=health,
        load=lambda: Load(dispatcher.in_flight, *origins.lag()),
    )
    dispatcher.start()
    tasks = [
        asyncio.create_task(work.run()) for work in (feed, recovery, overdue, reporter, sharing)
    ]
    tasks.append(asyncio.create_task(allowance.run()))
    tasks.append(asyncio.create_task(maintain_partitions(pool)))
    desk = ReceiptProcessor(pool, PolledProducer(producer, loop), codec)
    tasks += _hearing([route.provider for route in routes], pool, desk, channel=channel)
    for task in tasks:
        task.add_done_callback(lambda t: _report_failure(t, failed))
    return _Process(
        origins=origins,
        failed=failed,
        dispatcher=dispatcher,
        feed=feed,
        reporter=reporter,
        routes=routes,
        producer=producer,
        pool=pool,
        tasks=tasks,
        defects=defects,
    )


def _hearing(
    providers: list[Provider[Any]],
    pool: AsyncConnectionPool,
    desk: ReceiptProcessor,
    *,
    channel: Channel,
) -> list[asyncio.Task[None]]:
    """Tasks that take the later words of providers which do not post them to the endpoint."""
    tasks = []
    for provider in providers:
        tell = desk.teller(channel, provider.name)
        if isinstance(provider, StreamingProvider):
            tasks.append(asyncio.create_task(provider.listen(tell)))
        if isinstance(provider, PollableProvider):
            inquiry = ReceiptPoller(pool, provider, tell, channel=channel, name=provider.name)
            tasks.append(asyncio.create_task(inquiry.run()))
    return tasks


def _report_failure(task: asyncio.Task[None], failed: Any) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        failed(error)


def _routes(channel: Channel, settings: Settings, configured: ChannelSettings) -> list[Route]:
    found = []
    for wanted in configured.providers:
        provider, missing = build_or_unconfigured(channel, wanted, settings)
        if missing is not None:
            log.error("provider.setup_needed", provider=wanted.name, problem=missing)
        found.append(
            Route(
                provider,
                wanted.weight,
                missing,
                takes=capabilities_of(channel, wanted, settings),
                kind=wanted.type,
                probes=has_probe(channel, wanted),
                knows_repeats=has_idempotency_key(channel, wanted),
            )
        )
    return found
