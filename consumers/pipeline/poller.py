"""Polls one lane of a channel and commits its offsets.

A lane is the topic of one priority. `consumers.service` builds a `LanePoller` for each lane, and
`consumers.pipeline.lane_threads` runs it on a thread of its own, which alone touches the lane's
Kafka consumer. The poller decodes records, hands the deliveries to the dispatcher's event loop on
another thread, learns through `LaneProgress` which are done, and commits the offsets below which
everything is settled. When partitions are revoked it waits for deliveries that have begun, commits,
and lets the partitions go. A lane that is full stops fetching. Other lanes are not affected.

    poll ─► Decoder ─► Dispatcher (event loop) ─► AckRouter ─► LaneProgress ─► commit
"""

import asyncio
import time
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
from consumers.pipeline.progress import LaneProgress
from consumers.status.publisher import StatusPublisher
from schemas import topics
from schemas.vocabulary import Channel, Priority

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.05
FULL_SECONDS = 0.01
FULL_LIMIT_SECONDS = 2.0  # without room, after which the consumer pauses fetching
POLL_BATCH = 500
COMMIT_SECONDS = 0.5
MEASURE_SECONDS = 2.0
DRAIN_SECONDS = 25.0
MAX_LARGE_BYTES = 64 * 1024 * 1024  # of large records that may be open


class LanePoller:
    """Polls one lane and keeps its offsets.

    Args:
        progress: what is reported as done.
        loop: the dispatcher's event loop, which runs on another thread.
        max_open: how many records may be fetched and not done.

    Attributes:
        topic: the lane's topic.
        is_broker_reachable: whether a broker answered the last poll.
        lag: messages that are not settled, and the age of the oldest in seconds.
    """

    def __init__(
        self,
        *,
        channel: Channel,
        lane: Priority,
        progress: LaneProgress,
        broker: Broker,
        producer: EventProducer,
        decoder: Decoder,
        dispatcher: Dispatcher,
        publisher: StatusPublisher,
        loop: asyncio.AbstractEventLoop,
        max_open: int,
    ) -> None:
        self.topic = topics.of_channel(channel, lane)
        self.is_broker_reachable = False
        self.lag = (0, 0.0)
        self._channel = channel
        self._progress = progress
        self._offsets = progress.offsets
        self._producer = producer
        self._decoder = decoder
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._loop = loop
        self._max_open = max_open
        self._full_since: float | None = None
        self._committed_at = 0.0
        self._measured_at = 0.0
        self._consumer = broker.consumer(
            topics.group_of(channel, lane),
            [self.topic],
            rebalance=Rebalance(
                self._on_assigned, self._on_revoked, self._on_lost, self._offsets.restart
            ),
        )

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Poll until `should_stop` returns True, then drain and leave the consumer group.

        Raises:
            TooManyBadRecordsError: the topic's records cannot be processed.
        """
        try:
            while not should_stop():
                self._step()
        finally:
            self._consumer.close()

    def _step(self) -> None:
        self._progress.apply_reports()
        self._commit(every=COMMIT_SECONDS)
        self._measure_lag()
        room = self._room()
        if room < self._max_open // 4:  # a poll for each single message would cost too much
            self._wait_for_room()
            return
        self._full_since = None
        try:
            records = self._consumer.poll(min(room, POLL_BATCH), POLL_SECONDS)
        except KafkaUnavailableError as error:
            self.is_broker_reachable = False
            self._pause(error, POLL_SECONDS)
            return
        self.is_broker_reachable = True
        if records:
            self._submit(records)

    def _wait_for_room(self) -> None:
        """Wait a moment; serve rebalances where the lane has been full for long."""
        now = monotonic()
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < FULL_LIMIT_SECONDS:
            time.sleep(FULL_SECONDS)
            return
        try:
            self._consumer.poll_paused(POLL_SECONDS)
        except KafkaUnavailableError as error:
            self._pause(error, POLL_SECONDS)

    def _pause(self, error: Exception, seconds: float) -> None:
        """Log that Kafka is unavailable, and wait before the next try."""
        log.warning("kafka.unavailable", problem=str(error))
        self._progress.wait(seconds)

    def _room(self) -> int:
        """Return how many more records may be open."""
        if self._progress.large_bytes() >= MAX_LARGE_BYTES:
            return 0
        return self._max_open - self._offsets.count_open()

    def _submit(self, records: Sequence[Record]) -> None:
        """Decode records and hand the deliveries to the dispatcher."""
        deliveries = []
        for record in records:
            source = self._progress.track(record)
            if source is None:
                continue
            replayed = REPLAYED_FROM in record.headers
            decoded = self._decoder.read(record.value, source, replayed=replayed)
            if isinstance(decoded, Delivery):
                deliveries.append(decoded)
            else:
                self._reject(record, decoded, source)
        if deliveries:
            self._loop.call_soon_threadsafe(self._dispatcher.submit, deliveries)

    def _reject(self, record: Record, rejected: RejectedRecord, source: Offset) -> None:
        """Send a record to the dead letters, and publish its event if it has one."""
        log.error(
            "record.dead_letter",
            reason=rejected.reason,
            problem=rejected.detail,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
        metrics.dead_letters_total.labels(self._channel).inc()
        while True:
            try:
                send_to_dead_letters(self._producer, record, rejected, self._channel)
                break
            except KafkaUnavailableError as error:
                self._pause(error, COMMIT_SECONDS)
        event = rejected.event
        if event is None:
            self._offsets.mark_done(source)
        else:
            self._loop.call_soon_threadsafe(
                lambda: self._publisher.publish(event, lambda: self._progress.mark_done(source))
            )

    def _commit(self, *, every: float) -> None:
        """Commit what is done, unless the last commit is less than `every` seconds ago."""
        if monotonic() - self._committed_at < every:
            return
        self._committed_at = monotonic()
        offsets = self._offsets.offsets_to_commit()
        if not offsets:
            return
        try:
            self._consumer.commit(offsets)
        except KafkaUnavailableError as error:
            log.warning("kafka.commit_failed", problem=str(error))
        else:
            self._offsets.mark_committed(offsets)

    def _measure_lag(self) -> None:
        if monotonic() - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = monotonic()
        behind = sum(self._count_behind(p) for p in self._offsets.partitions())
        self.lag = max(behind, self._offsets.count_open()), self._offsets.oldest_age()

    def _count_behind(self, partition: TopicPartition) -> int:
        """Return how many records of a partition are not settled."""
        position = self._offsets.position(partition)
        if position is None:
            return 0
        return max(0, self._consumer.high_watermark(partition) - position)

    # Rebalances: these run inside poll and close, on the poll thread.

    def _on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._offsets.assign(partitions)
        log.info("partitions.assigned", partitions=sorted(number for _, number in partitions))

    def _on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._offsets.revoke(partitions)
        self._loop.call_soon_threadsafe(self._dispatcher.discard)
        deadline = monotonic() + DRAIN_SECONDS
        while self._offsets.count_open(partitions) and monotonic() < deadline:
            self._progress.wait(POLL_SECONDS)
            self._progress.apply_reports()
        unfinished = self._offsets.count_open(partitions)
        self._commit(every=0.0)
        self._progress.forget(partitions)
        log.info(
            "partitions.revoked",
            partitions=sorted(number for _, number in partitions),
            unfinished=unfinished,
        )

    def _on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._progress.forget(partitions)
        self._loop.call_soon_threadsafe(self._dispatcher.discard)
        log.warning("partitions.lost", partitions=sorted(number for _, number in partitions))
