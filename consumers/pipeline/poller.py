"""The outside of a channel process: one thread a lane, which alone touches its Kafka consumer.

`consumers.service` builds a `LanePoller` for each priority's topic and calls `run` on a thread of
its own. It polls records, hands them as deliveries to the dispatcher's event loop on another
thread, hears which are done, and commits the offsets below which everything is settled. When
partitions leave it waits for what has begun, commits, and lets go. A lane full of what waits reads
no further, and no other lane notices.

    poll ─► Intake ─► Dispatcher (event loop) ─► done ─► Watermark ─► commit
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

import structlog

from comms.platform import metrics
from comms.platform.dead_letters import REPLAYED_FROM
from comms.platform.kafka import (
    Broker,
    EventProducer,
    KafkaUnavailableError,
    Rebalance,
    Record,
    TopicPartition,
)
from consumers.ledger.delivery import Delivery, Offset
from consumers.pipeline.decoding import Decoder, RejectedRecord, send_to_dead_letters
from consumers.pipeline.dispatcher import Dispatcher
from consumers.pipeline.offsets import OffsetTracker
from consumers.status.publisher import StatusPublisher
from schemas import topics
from schemas.vocabulary import Channel, Priority

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.05
FULL_SECONDS = 0.01
STAND_SECONDS = 2.0  # without room, after which no more is fetched
POLL_BATCH = 500
COMMIT_SECONDS = 0.5
MEASURE_SECONDS = 2.0
DRAIN_SECONDS = 25.0
LARGE = 64 * 1024  # bytes of a record whose weight counts
MOST_LARGE = 64 * 1024 * 1024  # bytes of such records that may be open


class Progress:
    """What is done or given up, reported from any thread and read by the poll thread."""

    def __init__(self) -> None:
        self._done: deque[Offset] = deque()
        self._abandoned: deque[Offset] = deque()
        self._changed = threading.Event()

    def done(self, source: Offset) -> None:
        """Settled and announced."""
        self._done.append(source)
        self._changed.set()

    def abandoned(self, source: Offset) -> None:
        """Given up before it was claimed."""
        self._abandoned.append(source)
        self._changed.set()

    def drain_into(self, watermark: OffsetTracker, weights: dict[Offset, int]) -> None:
        """Move every report into the watermark, and take what it is about off the weights."""
        self._changed.clear()
        while self._done:
            source = self._done.popleft()
            watermark.done(source)
            weights.pop(source, None)
        while self._abandoned:
            source = self._abandoned.popleft()
            watermark.abandoned(source)
            weights.pop(source, None)

    def wait(self, seconds: float) -> None:
        """Until something is reported, or the time has passed."""
        self._changed.wait(seconds)


class LanePoller:
    """Reads one lane of a channel and keeps its offsets.

    Args:
        loop: the dispatcher's event loop, running on another thread.
        most_open: records that may be fetched and not yet done.
    """

    def __init__(
        self,
        *,
        channel: Channel,
        lane: Priority,
        broker: Broker,
        producer: EventProducer,
        intake: Decoder,
        dispatcher: Dispatcher,
        announcer: StatusPublisher,
        loop: asyncio.AbstractEventLoop,
        most_open: int,
    ) -> None:
        self.topic = topics.of_channel(channel, lane)
        self._channel, self._producer, self._intake = channel, producer, intake
        self._dispatcher, self._announcer, self._loop = dispatcher, announcer, loop
        self._watermark, self._progress, self._most_open = OffsetTracker(), Progress(), most_open
        self._full_since: float | None = None
        self._weights: dict[Offset, int] = {}  # of large records that are open
        self._committed_at = self._measured_at = 0.0
        self.reachable = False
        self.lag = (0, 0.0)
        self._consumer = broker.consumer(
            topics.group_of(channel, lane),
            [self.topic],
            rebalance=Rebalance(
                self._assigned, self._revoked, self._lost, self._watermark.begin_anew
            ),
        )

    def done(self, source: Offset) -> None:
        """A record is settled and announced; from any thread."""
        self._progress.done(source)

    def abandoned(self, source: Offset) -> None:
        """A record was given up before it was claimed; from any thread."""
        self._progress.abandoned(source)

    def is_current(self, source: Offset) -> bool:
        """Whether the record is still this process's to work on."""
        return self._watermark.is_current(source)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Work until told to stop, then drain and leave the group.

        Raises:
            TooManyBadRecordsError: the topic's records cannot be processed.
        """
        try:
            while not should_stop():
                self._step()
        finally:
            self._consumer.close()

    def _step(self) -> None:
        self._progress.drain_into(self._watermark, self._weights)
        self._commit(every=COMMIT_SECONDS)
        self._measure()
        room = self._room()
        if room < self._most_open // 4:  # a wake-up for every single message costs more than it
            self._stand()
            return
        self._full_since = None
        try:
            records = self._consumer.poll(min(room, POLL_BATCH), POLL_SECONDS)
        except KafkaUnavailableError as error:
            log.warning("kafka.unavailable", problem=str(error))
            self.reachable = False
            self._progress.wait(POLL_SECONDS)
            return
        self.reachable = True
        if records:
            self._take(records)

    def _stand(self) -> None:
        """There is no room. Where that lasts, partitions may come and go all the same."""
        now = monotonic()
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < STAND_SECONDS:
            time.sleep(FULL_SECONDS)
            return
        try:
            self._consumer.stand_by(POLL_SECONDS)
        except KafkaUnavailableError as error:
            log.warning("kafka.unavailable", problem=str(error))
            self._progress.wait(POLL_SECONDS)

    def _room(self) -> int:
        """How many records may be taken on."""
        if sum(self._weights.values()) >= MOST_LARGE:
            return 0
        return self._most_open - self._watermark.open()

    def _take(self, records: Sequence[Record]) -> None:
        deliveries = []
        for record in records:
            source = self._watermark.fetched(record.place, record.offset, record.timestamp)
            if source is None:
                continue
            if len(record.value) >= LARGE:
                self._weights[source] = len(record.value)
            replayed = REPLAYED_FROM in record.headers
            found = self._intake.read(record.value, source, replayed=replayed)
            if isinstance(found, Delivery):
                deliveries.append(found)
            else:
                self._put_aside(record, found, source)
        if deliveries:
            self._loop.call_soon_threadsafe(self._dispatcher.submit, deliveries)

    def _put_aside(self, record: Record, bad: RejectedRecord, source: Offset) -> None:
        log.error(
            "record.dead_letter",
            reason=bad.reason,
            problem=bad.detail,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
        metrics.dead_letters_total.labels(self._channel).inc()
        while True:
            try:
                send_to_dead_letters(self._producer, record, bad, self._channel)
                break
            except KafkaUnavailableError as error:
                log.warning("kafka.unavailable", problem=str(error))
                self._progress.wait(COMMIT_SECONDS)
        if bad.event is None:
            self._watermark.done(source)
        else:
            event = bad.event
            self._loop.call_soon_threadsafe(
                lambda: self._announcer.announce(event, lambda: self._progress.done(source))
            )

    def _commit(self, *, every: float) -> None:
        if monotonic() - self._committed_at < every:
            return
        self._committed_at = monotonic()
        offsets = self._watermark.to_commit()
        if not offsets:
            return
        try:
            self._consumer.commit(offsets)
        except KafkaUnavailableError as error:
            log.warning("kafka.commit_failed", problem=str(error))
        else:
            self._watermark.committed(offsets)

    def _measure(self) -> None:
        if monotonic() - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = monotonic()
        behind = [self._behind(place) for place in self._watermark.places()]
        self.lag = max(sum(behind), self._watermark.open()), self._watermark.oldest_seconds()

    def _behind(self, place: TopicPartition) -> int:
        position = self._watermark.position(place)
        if position is None:
            return 0
        return max(0, self._consumer.high_watermark(place) - position)

    # Rebalancing: these run inside poll and close, on the poll thread

    def _assigned(self, places: Sequence[TopicPartition]) -> None:
        self._watermark.assign(places)
        log.info("partitions.assigned", partitions=sorted(number for _, number in places))

    def _revoked(self, places: Sequence[TopicPartition]) -> None:
        self._watermark.revoke(places)
        self._loop.call_soon_threadsafe(self._dispatcher.discard)
        deadline = monotonic() + DRAIN_SECONDS
        while self._watermark.open(places) and monotonic() < deadline:
            self._progress.wait(POLL_SECONDS)
            self._progress.drain_into(self._watermark, self._weights)
        left = self._watermark.open(places)
        self._commit(every=0.0)
        self._forget(places)
        log.info("partitions.revoked", partitions=sorted(n for _, n in places), unfinished=left)

    def _lost(self, places: Sequence[TopicPartition]) -> None:
        self._forget(places)
        self._loop.call_soon_threadsafe(self._dispatcher.discard)
        log.warning("partitions.lost", partitions=sorted(number for _, number in places))

    def _forget(self, places: Sequence[TopicPartition]) -> None:
        self._watermark.forget(places)
        gone = frozenset(places)
        self._weights = {s: weight for s, weight in self._weights.items() if s.place not in gone}
