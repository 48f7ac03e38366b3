"""The relay: publishes the messages that were committed to the queue to the Kafka topics.

`comms run relay` calls `run_relay`. Several relays may run. They share the work by shards. A relay
publishes one batch of a lane at a time, the most urgent lane first. It waits until the whole batch
is acknowledged, and then moves its position in the queue. If anything fails before that, it
publishes the batch again, and consumers recognise the messages that they have already seen. If the
cluster has lost records that it acknowledged, the relay publishes all unclaimed messages again from
the beginning, in their order.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from comms.platform.database import DatabaseError, translate_errors
from comms.platform.health import HealthServer
from comms.platform.kafka import Broker, KafkaFault
from comms.platform.registry import RegistryUnavailableError, build_codec
from comms.platform.settings import Settings
from producer.acknowledger import Acknowledger
from producer.health_state import HealthState
from producer.publisher import BatchPublisher
from producer.relay_session import RelayIntervals, RelaySession
from producer.topic_identity import TopicIdentity
from schemas.codec import Codec

log = structlog.get_logger(__name__)

DEFAULT_INTERVALS = RelayIntervals()
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds between attempts while Kafka or PostgreSQL is away

# PostgreSQL ends the session of a machine that has disappeared. Its shards are then free.
KEEPALIVE: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


def run_relay(settings: Settings, stop: Event) -> None:
    """Relay until `stop` is set. The relay recovers by itself when Kafka or PostgreSQL was away.

    Raises:
        SettingsError: the address of Kafka or of PostgreSQL is missing.
        OSError: the port for health and metrics is in use.
    """
    url = settings.need_database()
    broker = Broker(settings.need_kafka())
    codec = build_codec(settings)
    health = HealthState()
    server = HealthServer(settings.http_host, settings.http_port, health.problems)
    server.start()
    try:
        relay(broker, url, codec, health=health, stop=stop)
    finally:
        server.stop()


def relay(
    broker: Broker,
    database_url: str,
    codec: Codec,
    *,
    health: HealthState,
    stop: Event,
    intervals: RelayIntervals = DEFAULT_INTERVALS,
) -> None:
    """Relay and acknowledge between one database and one cluster until `stop` is set."""
    acknowledger = Acknowledger(broker, database_url, codec, health)
    # Only one relay acknowledges: with fewer members the consumer group rebalances less often.
    active = Event()
    thread = Thread(target=acknowledger.run, args=(stop, active), name="acknowledger", daemon=True)
    thread.start()
    producer = broker.producer(idempotent=True)
    try:
        topic_identity = TopicIdentity(broker)
        publisher = BatchPublisher(producer, codec, stop, topic_identity)
        backoff = _Backoff(stop)
        while not stop.is_set():
            with backoff.after_database_errors(health), _connect(database_url) as connection:
                session = RelaySession(connection, publisher, topic_identity, intervals, active)
                _run_session(session, health, backoff, idle_seconds=intervals.idle, stop=stop)
    finally:
        producer.close(2.0)
        thread.join(15.0)


def _run_session(
    session: RelaySession,
    health: HealthState,
    backoff: "_Backoff",
    *,
    idle_seconds: float,
    stop: Event,
) -> None:
    """Step until `stop` is set. After a fault of Kafka the session keeps its shards."""
    health.clear("database")
    while not stop.is_set():
        try:
            row_count = session.step()
        except (KafkaFault, RegistryUnavailableError) as fault:
            health.set("kafka", str(fault))
            log.warning("relay.kafka_unavailable", problem=str(fault))
            backoff.wait()
        else:
            health.clear("kafka")
            backoff.reset()
            if not row_count:
                stop.wait(idle_seconds)


class _Backoff:
    """Waits that become longer while errors continue, and end at once when the process stops."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._seconds = FIRST_WAIT

    def reset(self) -> None:
        """Return to the shortest wait."""
        self._seconds = FIRST_WAIT

    def wait(self) -> None:
        """Wait, and double the next wait up to the longest one."""
        self._stop.wait(self._seconds)
        self._seconds = min(self._seconds * 2, LONGEST_WAIT)

    @contextmanager
    def after_database_errors(self, health: HealthState) -> Iterator[None]:
        """Report a database error that ends the session, and wait."""
        try:
            yield
        except DatabaseError as error:
            health.set("database", str(error))
            log.warning("relay.database_unavailable", problem=str(error))
            self.wait()


@contextmanager
def _connect(url: str) -> Iterator[psycopg.Connection[Any]]:
    with (
        translate_errors(),
        psycopg.connect(
            make_conninfo(url, **KEEPALIVE), autocommit=True, application_name="comms-relay"
        ) as connection,
    ):
        # PostgreSQL also ends the session of a relay that hangs. The limit is longer than any
        # wait for acknowledgements.
        connection.execute("SET idle_session_timeout = '45s'")
        yield connection
