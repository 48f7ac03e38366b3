"""One database session of the relay: it publishes batches and does the periodic tasks.

`producer.relay` opens the session and calls `RelaySession.step` in a loop. A step runs the periodic
tasks that are due, reads one batch from the queue (`producer.queue`), publishes it
(`producer.publisher`) and moves the positions past it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import psycopg
import structlog

from comms.platform import metrics
from comms.platform.database import translate_errors
from producer import queue, shards
from producer.ordering import keep_order
from producer.publisher import BatchPublisher
from producer.rows import Position, QueueRow
from producer.shards import SHARDS
from producer.topic_identity import TopicIdentity

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayIntervals:
    """The intervals at which the relay does its periodic tasks, in seconds.

    Args:
        idle: the pause before the next step if the last one found no rows.
        schedule: between two checks for scheduled messages that are due.
        shards: between two checks for shards to take over.
        sweep: between two checks for published rows that no consumer has claimed.
        settle: the time that a consumer has to claim a published row before it counts as lost.
        measure: between two counts of the backlog.
        verify: between two checks of the topics' identity while there is nothing to publish.
    """

    idle: float = 0.02
    schedule: float = 0.1
    shards: float = 2.0
    sweep: float = 1.0
    settle: float = 30.0
    measure: float = 5.0
    verify: float = 1.0


class RelaySession:
    """Relays the rows of its shards, which it owns as long as `connection` is open.

    Args:
        active: set while this session owns the first shard. The relay that owns it acknowledges
            for all relays.

    Raises, from `step`:
        DatabaseError: the session has ended; open another one.
        KafkaFault: a record was not acknowledged; call `step` again.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        publisher: BatchPublisher,
        topic_identity: TopicIdentity,
        intervals: RelayIntervals,
        active: Event,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._topic_identity = topic_identity
        self._active = active
        self._log_id = ""
        self.shards: frozenset[int] = frozenset()
        self._settled: list[Position] = []
        self._settling: list[Position] = []
        self._tasks = [
            PeriodicTask(intervals.shards, self._take_shards),
            PeriodicTask(intervals.schedule, lambda: queue.move_due(connection)),
            PeriodicTask(intervals.settle, self._advance_settled),
            PeriodicTask(intervals.sweep, self._sweep),
            PeriodicTask(intervals.measure, self._measure),
            PeriodicTask(intervals.verify, self._check_topics),
        ]

    def step(self) -> int:
        """Run the periodic tasks that are due and relay one batch; return its number of rows."""
        with translate_errors():
            for task in self._tasks:
                task.run_if_due()
            return self._relay_batch()

    def _relay_batch(self) -> int:
        if not self.shards:
            return 0
        rows = queue.read(self._connection, self.shards)
        if rows and self._check_topics():
            return len(rows)  # earlier rows must be published again first
        for batch in _by_lane(rows):
            queue.advance(self._connection, batch, self._publish(batch))
        return len(rows)

    def _publish(self, batch: Sequence[QueueRow], *, is_repeat: bool = False) -> list[QueueRow]:
        """Publish rows of one lane, and return those that belong to another lane from now on."""
        pending = queue.read_pending_for_recipients(self._connection, batch)
        rows = keep_order(batch, pending)
        self._publisher.publish(rows, log_id=self._log_id, is_repeat=is_repeat)
        return [row for row in rows if row.is_moved]

    def _check_topics(self) -> bool:
        """Return whether the topics were replaced, so that unclaimed rows are published again."""
        log_id = self._topic_identity.read_log_id()
        if log_id == self._log_id:
            return False
        rewound = queue.set_log_id(self._connection, self.shards, log_id)
        self._log_id = log_id
        if rewound:
            log.warning("relay.rewound", shards=sorted(rewound))
            self._publisher.renew()
            self._settled = []
            self._settling = []
        return bool(rewound)

    def _take_shards(self) -> None:
        owned = shards.take_shards(self._connection, self.shards)
        if released := self.shards - owned:
            log.info("relay.shards_released", shards=sorted(released))
        if new := owned - self.shards:
            log.info("relay.shards_taken", shards=sorted(new))
            self._publisher.renew()
            # Consumers have had enough time for the rows that the former owner published.
            self._settled += queue.read_positions(self._connection, new)
            self._log_id = ""  # the former owner may have published to other topics
        self.shards = owned
        if SHARDS[0] in owned:
            self._active.set()
        else:
            self._active.clear()

    def _advance_settled(self) -> None:
        """Let the rows count as settled that were published before the last call of this method."""
        if self._settling:
            self._settled = self._settling
        self._settling = queue.read_positions(self._connection, self.shards)

    def _sweep(self) -> None:
        """Publish settled rows again that no consumer has claimed."""
        positions = [position for position in self._settled if position.shard in self.shards]
        rows = queue.read_unclaimed(self._connection, positions)
        if rows and not self._check_topics():
            log.info("relay.republished", rows=len(rows))
            for batch in _by_lane(rows):
                queue.postpone(self._connection, batch, self._publish(batch, is_repeat=True))

    def _measure(self) -> None:
        pending, oldest = queue.measure_backlog(self._connection)
        metrics.outbox_pending.set(pending)
        metrics.outbox_oldest_seconds.set(oldest)


def _by_lane(rows: Sequence[QueueRow]) -> Iterator[list[QueueRow]]:
    """Yield the rows of each lane that has any, the most urgent lane first."""
    for lane in shards.URGENCY:
        if batch := [row for row in rows if row.lane is lane]:
            yield batch


class PeriodicTask:
    """A function that runs at an interval, and at the first opportunity."""

    def __init__(self, seconds: float, work: Callable[[], object]) -> None:
        self._seconds = seconds
        self._work = work
        self._next = 0.0

    def run_if_due(self) -> None:
        """Run the function if the interval has passed."""
        if time.monotonic() >= self._next:
            self._work()
            self._next = time.monotonic() + self._seconds
