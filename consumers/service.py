"""Runs a channel process, and puts together everything it consists of.

`comms run sms` (or `python -m consumers.sms`) calls `run_channel` on its main thread, which then
waits. Each lane's Kafka consumer has a thread of its own. Provider calls, the ledger and the status
events have one event loop on another thread.
"""

import asyncio
import gc
import random
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseError, create_pool
from comms.platform.health import HealthServer
from comms.platform.kafka import Broker, EventProducer
from comms.platform.registry import build_codec
from comms.platform.settings import ChannelSettings, Settings
from consumers.ledger.partitions import maintain_partitions
from consumers.ledger.store import Ledger
from consumers.ledger.unpublished import UnpublishedEvents
from consumers.pipeline.acks import AckRouter
from consumers.pipeline.assembly import build_dispatcher
from consumers.pipeline.claiming import compute_doubt_after
from consumers.pipeline.decoding import Decoder
from consumers.pipeline.deferred import DeferredFeed
from consumers.pipeline.dispatcher import Dispatcher
from consumers.pipeline.lane_threads import LaneThreads
from consumers.pipeline.loop_thread import LoopThread
from consumers.pipeline.poller import DRAIN_SECONDS, LanePoller
from consumers.pipeline.progress import LaneProgress, LeaseProgress
from consumers.pipeline.recovery import Recovery
from consumers.receipts.tasks import receipt_tasks
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
from consumers.routing.rate_limit import ProviderRateLimits
from consumers.routing.sharing import RouteSharing
from consumers.status.publisher import StatusPublisher
from consumers.status.reporter import Load, Reporter
from schemas import topics
from schemas.codec import Codec
from schemas.vocabulary import Channel, Priority

log = structlog.get_logger(__name__)

# Records fetched ahead for each call that may run. There are many, because messages to one
# recipient wait for one another, and should not hide those to other recipients.
OPEN_PER_CALL = 40


def run_channel(channel: Channel, settings: Settings, stop: threading.Event) -> None:
    """Deliver the channel's messages until `stop` is set, then drain and return.

    Raises:
        SettingsError: a provider's table is wrong, or an address is missing.
        TooManyBadRecordsError: the topic's records cannot be processed.
        DatabaseRefusedError: the ledger's tables are not what this version expects.
    """
    _reduce_garbage_collection()
    with LoopThread() as thread:
        process = thread.call(_assemble(channel, settings, thread.loop, stop))
        health = HealthServer(settings.http_host, settings.http_port, process.find_problems)
        try:
            health.start()
            log.info("service.started", channel=channel)
            process.lanes.run(stop, process.fail)
        finally:
            health.stop()
            thread.call(process.close())
            process.parts.producer.close()
    process.raise_failure()


run_sms = partial(run_channel, Channel.SMS)
run_email = partial(run_channel, Channel.EMAIL)
run_push = partial(run_channel, Channel.PUSH)
run_voice = partial(run_channel, Channel.VOICE)


def _reduce_garbage_collection() -> None:
    """Look for reference cycles less often than every 700 allocations.

    Thousands of messages in flight are not garbage. What the imports created is never looked at.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What the parts of a channel process share."""

    channel: Channel
    settings: Settings
    broker: Broker
    pool: AsyncConnectionPool
    producer: EventProducer
    codec: Codec
    routes: Sequence[Route]
    loop: asyncio.AbstractEventLoop

    @property
    def configured(self) -> ChannelSettings:
        """The channel's own settings."""
        return self.settings.channels[self.channel]

    def new_decoder(self) -> Decoder:
        """Make a decoder, of which each thread needs its own."""
        return Decoder(self.channel, self.codec, self.configured.policy)


@dataclass(slots=True, kw_only=True)
class _Process:
    """A running channel process."""

    parts: _Parts
    lanes: LaneThreads
    dispatcher: Dispatcher
    feed: DeferredFeed
    reporter: Reporter
    tasks: list[asyncio.Task[None]]
    failure: "_Failure"

    def fail(self, error: BaseException) -> None:
        """Stop the process because of an error."""
        self.failure.set(error)

    def find_problems(self) -> list[str]:
        """Return what keeps the channel from delivering."""
        problems = []
        if not self.lanes.is_broker_reachable:
            problems.append("Kafka does not answer")
        if self.reporter.database_problem is not None:
            problems.append(f"PostgreSQL: {self.reporter.database_problem}")
        return problems

    def raise_failure(self) -> None:
        """Raise the error that stopped the process, if one did."""
        if self.failure.error is not None:
            raise self.failure.error

    async def close(self) -> None:
        """Finish what has begun and release everything; runs on the loop."""
        await self.dispatcher.stop(within=DRAIN_SECONDS)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.parts.producer.flush(10)
        try:
            await self.feed.delete_finished()
            await self.reporter.delete_row()
        except DatabaseError as error:
            log.warning("service.cleanup_failed", problem=str(error))
        for route in self.parts.routes:
            await route.provider.close()
        await self.parts.pool.close()


class _Failure:
    """The first error that nothing can handle. It stops the process."""

    def __init__(self, stop: threading.Event) -> None:
        self.error: BaseException | None = None
        self._stop = stop

    def set(self, error: BaseException) -> None:
        """Remember an error and stop the process; from any thread."""
        log.error("service.defect", exc_info=error)
        if self.error is None:
            self.error = error
        self._stop.set()

    def watch(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task whose error stops the process."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.set(error)


async def _assemble(
    channel: Channel,
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    stop: threading.Event,
) -> _Process:
    """Put a channel process together, and start its tasks."""
    parts = await _open_parts(channel, settings, loop)
    configured, pool, owner = parts.configured, parts.pool, uuid4()
    publisher = StatusPublisher(parts.producer, parts.codec, loop)
    health, failure = ProviderHealth(), _Failure(stop)
    limits = _rate_limits(parts)
    router = Router(parts.routes, configured.routing, source=random.SystemRandom(), limits=limits)
    lane_progress = {lane: LaneProgress() for lane in Priority}
    leases = LeaseProgress()
    by_topic = {topics.of_channel(channel, lane): p for lane, p in lane_progress.items()}
    ledger = Ledger(pool, channel=channel, owner=owner)
    dispatcher = build_dispatcher(
        channel,
        configured,
        ledger=ledger,
        router=router,
        publisher=publisher,
        health=health,
        acks=AckRouter(by_topic, leases),
        on_failure=failure.set,
    )
    lanes = _build_lanes(parts, lane_progress, dispatcher, publisher)
    decoder = parts.new_decoder()
    feed = DeferredFeed(ledger, decoder, dispatcher, router=router, progress=leases)
    reporter = Reporter(
        pool,
        channel=channel,
        owner=owner,
        routes=parts.routes,
        router=router,
        health=health,
        measure_load=lambda: Load(dispatcher.in_flight, *lanes.measure_lag()),
    )
    dispatcher.start()
    tasks = [
        *(part.run() for part in (feed, reporter, limits)),
        *_background_tasks(parts, ledger, router, decoder, publisher),
    ]
    return _Process(
        parts=parts,
        lanes=lanes,
        dispatcher=dispatcher,
        feed=feed,
        reporter=reporter,
        tasks=[failure.watch(task) for task in tasks],
        failure=failure,
    )


async def _open_parts(
    channel: Channel, settings: Settings, loop: asyncio.AbstractEventLoop
) -> _Parts:
    """Connect to the database, the broker and the providers."""
    broker = Broker(settings.need_kafka())
    pool = create_pool(settings.need_database(), size=6, name=channel)
    routes = _build_routes(channel, settings)
    codec = build_codec(settings)
    await pool.open()
    for route in routes:
        await route.provider.open()
    return _Parts(
        channel=channel,
        settings=settings,
        broker=broker,
        pool=pool,
        producer=broker.producer(threaded=False),
        codec=codec,
        routes=routes,
        loop=loop,
    )


def _rate_limits(parts: _Parts) -> ProviderRateLimits:
    rates = {
        provider.name: provider.rate_limit
        for provider in parts.configured.providers
        if provider.rate_limit is not None
    }
    return ProviderRateLimits(parts.pool, rates, channel=parts.channel)


def _build_lanes(
    parts: _Parts,
    progress: Mapping[Priority, LaneProgress],
    dispatcher: Dispatcher,
    publisher: StatusPublisher,
) -> LaneThreads:
    pollers = [
        LanePoller(
            channel=parts.channel,
            lane=lane,
            progress=lane_progress,
            broker=parts.broker,
            producer=parts.producer,
            decoder=parts.new_decoder(),
            dispatcher=dispatcher,
            publisher=publisher,
            loop=parts.loop,
            max_open=parts.configured.concurrency * OPEN_PER_CALL,
        )
        for lane, lane_progress in progress.items()
    ]
    return LaneThreads(parts.channel, pollers)


def _background_tasks(
    parts: _Parts, ledger: Ledger, router: Router, decoder: Decoder, publisher: StatusPublisher
) -> list[Coroutine[Any, Any, None]]:
    """Return the tasks that are not on the path of a message to its provider."""
    channel, configured, pool = parts.channel, parts.configured, parts.pool
    recovery = Recovery(
        ledger,
        UnpublishedEvents(pool, channel=channel),
        decoder,
        publisher,
        doubt_after=compute_doubt_after(configured),
    )
    timeouts = ReceiptTimeouts(
        pool,
        publisher,
        channel=channel,
        providers=providers_with_receipts(channel, configured.providers),
        timeout_hours=configured.receipt_timeout_hours,
    )
    sharing = RouteSharing(pool, router, channel=channel, policy=configured.routing)
    receipts = receipt_tasks(
        [route.provider for route in parts.routes],
        channel=channel,
        pool=pool,
        producer=parts.producer,
        codec=parts.codec,
        loop=parts.loop,
    )
    return [recovery.run(), timeouts.run(), sharing.run(), maintain_partitions(pool), *receipts]


def _build_routes(channel: Channel, settings: Settings) -> list[Route]:
    routes = []
    for configured in settings.channels[channel].providers:
        provider, missing = build_or_unconfigured(channel, configured, settings)
        if missing is not None:
            log.error("provider.setup_needed", provider=configured.name, problem=missing)
        routes.append(
            Route(
                provider,
                configured.weight,
                missing,
                capabilities=capabilities_of(channel, configured, settings),
                type=configured.type,
                has_probe=has_probe(channel, configured),
                has_idempotency_key=has_idempotency_key(channel, configured),
            )
        )
    return routes
