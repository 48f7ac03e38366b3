"""The relay: what was committed to the queue is published to the topics.

`comms run relay` calls `run_relay`. Several may run, and share the work by shards. A relay
publishes a batch of a lane, the urgent one first, waits until all of it is acknowledged, and moves
the cursor; whatever fails before that, the batch is published again. Consumers recognise what they
have seen. Where the cluster turns out to have lost what it acknowledged, everything unclaimed is
published again from the beginning, in its order.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from comms.platform import metrics
from comms.platform.database import DatabaseError, translated
from comms.platform.health import HealthServer
from comms.platform.kafka import Broker, KafkaFault
from comms.platform.registry import RegistryUnavailableError, codec_of
from comms.platform.settings import Settings
from producer import queue, shards
from producer.acknowledger import Acknowledger
from producer.health_state import HealthState
from producer.ordering import in_order
from producer.publisher import Publisher
from producer.shards import SHARDS
from producer.topic_identity import TopicIdentity
from schemas.codec import Codec

log = structlog.get_logger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds between tries while something is away

# The server ends a session whose machine is gone, and with it the ownership of its shards.
KEEPALIVE: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayIntervals:
    """How often the relay looks, in seconds.

    Args:
        idle: for rows, when the last look found none; schedule: for what is due.
        shards: for shards to take over; sweep: for rows that nobody has claimed.
        settle: how long a published row is left to its consumer before it can count as lost.
        measure: how often the backlog is counted.
        verify: how often it is asked, while there is nothing to publish, whether the topics are the
            same logs.
    """

    idle: float = 0.02
    schedule: float = 0.1
    shards: float = 2.0
    sweep: float = 1.0
    settle: float = 30.0
    measure: float = 5.0
    verify: float = 1.0


class Relay:
    """One session of relaying: its shards are its own as long as `connection` lives.

    Args:
        active: set while the first of all shards is ours: its owner acknowledges for everybody.

    Raises, from `step`:
        DatabaseError: the session is over; begin another.
        KafkaFault: something was not acknowledged; step again.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        publisher: Publisher,
        logs: TopicIdentity,
        pace: RelayIntervals,
        active: Event,
    ) -> None:
        self._connection = connection
        self._publisher, self._logs = publisher, logs
        self._active = active
        self._log = ""
        self.shards: frozenset[int] = frozenset()
        self._settled: list[queue.Position] = []
        self._settling: list[queue.Position] = []
        self._chores = [
            PeriodicTask(pace.shards, self._take_shards),
            PeriodicTask(pace.schedule, lambda: queue.move_due(connection)),
            PeriodicTask(pace.settle, self._let_settle),
            PeriodicTask(pace.sweep, self._sweep),
            PeriodicTask(pace.measure, self._measure),
            PeriodicTask(pace.verify, self._follow_log),
        ]

    def step(self) -> int:
        """Do what is due, and relay one batch; the number of rows it had."""
        with translated():
            for chore in self._chores:
                chore.run_if_due()
            return self._relay_batch()

    def _relay_batch(self) -> int:
        if not self.shards:
            return 0
        rows = queue.read(self._connection, self.shards)
        if rows and self._follow_log():
            return len(rows)  # earlier ones come first
        for batch in _by_lane(rows):
            queue.advance(self._connection, batch, self._publish(batch))
        return len(rows)

    def _publish(self, batch: Sequence[queue.Row], *, again: bool = False) -> list[queue.Row]:
        """Publish rows of one lane; returns those that are of another lane from now on."""
        rows = in_order(batch, queue.pending_for_recipients(self._connection, batch))
        self._publisher.publish(rows, log=self._log, again=again)
        return [row for row in rows if row.is_moved]

    def _follow_log(self) -> bool:
        """Whether the cluster lost what was published, and it will be published again."""
        log_now = self._logs.identity()
        if log_now == self._log:
            return False
        rewound = queue.follow_log(self._connection, self.shards, log_now)
        self._log = log_now
        if rewound:
            log.warning("relay.rewound", shards=sorted(rewound))
            self._publisher.renew()
            self._settled, self._settling = [], []
        return bool(rewound)

    def _take_shards(self) -> None:
        held = shards.take_shards(self._connection, self.shards)
        if gone := self.shards - held:
            log.info("relay.shards_given", shards=sorted(gone))
        if new := held - self.shards:
            log.info("relay.shards_taken", shards=sorted(new))
            self._publisher.renew()
            # What the former owner published has been waiting for its consumer long enough.
            self._settled += queue.positions(self._connection, new)
            self._log = ""  # they may have been published to another one
        self.shards = held
        if SHARDS[0] in held:
            self._active.set()
        else:
            self._active.clear()

    def _let_settle(self) -> None:
        """What was published before the last call of this has had its time."""
        if self._settling:
            self._settled = self._settling
        self._settling = queue.positions(self._connection, self.shards)

    def _sweep(self) -> None:
        ours = [place for place in self._settled if place.shard in self.shards]
        rows = queue.overdue(self._connection, ours)
        if rows and not self._follow_log():
            log.info("relay.published_again", rows=len(rows))
            for batch in _by_lane(rows):
                queue.postpone(self._connection, batch, self._publish(batch, again=True))

    def _measure(self) -> None:
        pending, oldest = queue.backlog(self._connection)
        metrics.outbox_pending.set(pending)
        metrics.outbox_oldest_seconds.set(oldest)


def _by_lane(rows: Sequence[queue.Row]) -> Iterator[list[queue.Row]]:
    """The rows of each lane that has any, the urgent one's first."""
    for lane in shards.URGENCY:
        if batch := [row for row in rows if row.lane is lane]:
            yield batch


class PeriodicTask:
    """Something done every so often, at the first chance too."""

    def __init__(self, seconds: float, work: Callable[[], object]) -> None:
        self._seconds, self._work = seconds, work
        self._next = 0.0

    def run_if_due(self) -> None:
        if time.monotonic() >= self._next:
            self._work()
            self._next = time.monotonic() + self._seconds


def run_relay(settings: Settings, stop: Event) -> None:
    """Relay until `stop` is set; goes on by itself when Kafka or PostgreSQL were away.

    Raises:
        SettingsError: the address of either is missing.
        OSError: the port for health and metrics is taken.
    """
    url, broker, codec = settings.need_database(), Broker(settings.need_kafka()), codec_of(settings)
    conditions = HealthState()
    health = HealthServer(settings.http_host, settings.http_port, conditions.problems)
    health.start()
    try:
        relay(broker, url, codec, conditions=conditions, stop=stop)
    finally:
        health.stop()


def relay(
    broker: Broker,
    database_url: str,
    codec: Codec,
    *,
    conditions: HealthState,
    stop: Event,
    pace: RelayIntervals = RelayIntervals(),
) -> None:
    """Relay and acknowledge between these two engines until `stop` is set."""
    acknowledger = Acknowledger(broker, database_url, codec, conditions)
    # One relay is enough for it: fewer members of the group, fewer rebalances.
    active = Event()
    thread = Thread(target=acknowledger.run, args=(stop, active), name="acknowledger", daemon=True)
    thread.start()
    producer = broker.producer(idempotent=True)
    try:
        logs = TopicIdentity(broker)
        publisher = Publisher(producer, codec, stop, logs)
        backoff = _Backoff(stop)
        while not stop.is_set():
            with backoff.from_troubles(conditions), _session(database_url) as connection:
                session = Relay(connection, publisher, logs, pace, active)
                _work(session, conditions, backoff, pace=pace, stop=stop)
    finally:
        producer.close(2.0)
        thread.join(15.0)


def _work(
    session: Relay,
    conditions: HealthState,
    backoff: "_Backoff",
    *,
    pace: RelayIntervals,
    stop: Event,
) -> None:
    """Step until told to stop; a fault of Kafka's keeps the session and its shards."""
    conditions.clear("database")
    while not stop.is_set():
        try:
            found = session.step()
        except (KafkaFault, RegistryUnavailableError) as fault:
            conditions.set("kafka", str(fault))
            log.warning("relay.kafka", problem=str(fault))
            backoff.wait()
        else:
            conditions.clear("kafka")
            backoff.reset()
            if not found:
                stop.wait(pace.idle)


class _Backoff:
    """Waits that grow while trouble lasts, and end at once when the process shall stop."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._seconds = FIRST_WAIT

    def reset(self) -> None:
        self._seconds = FIRST_WAIT

    def wait(self) -> None:
        self._stop.wait(self._seconds)
        self._seconds = min(self._seconds * 2, LONGEST_WAIT)

    @contextmanager
    def from_troubles(self, conditions: HealthState) -> Iterator[None]:
        """A session that the database ends is reported, and followed by a wait."""
        try:
            yield
        except DatabaseError as error:
            conditions.set("database", str(error))
            log.warning("relay.database", problem=str(error))
            self.wait()


@contextmanager
def _session(url: str) -> Iterator[psycopg.Connection[Any]]:
    with (
        translated(),
        psycopg.connect(
            make_conninfo(url, **KEEPALIVE), autocommit=True, application_name="comms-relay"
        ) as connection,
    ):
        # And that of one that stands still: longer than any wait for acknowledgements.
        connection.execute("SET idle_session_timeout = '45s'")
        yield connection
