"""The audit service: follows `comms.status` and records what it says, each event exactly once.

`comms run audit` calls `run_audit` on its main thread, which then reads, decodes and merges until
it is told to stop. Whatever goes wrong outside (no broker, no database, a partition handed over in
the middle of a batch) ends the session; the next one begins where the store says. What cannot be
decoded or stored goes to `comms.dead-letters`, and reading goes on.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from audit import merge
from audit.dead_letters import send_to_dead_letters
from audit.merge import Connection, EventRefusedError, OffsetConflictError, Step
from audit.positions import LogReplacedError, Positions
from comms.platform import metrics
from comms.platform.database import DatabaseError, DatabaseRefusedError, translated
from comms.platform.health import HealthServer
from comms.platform.kafka import (
    Broker,
    EventProducer,
    KafkaFault,
    Rebalance,
    Record,
    TopicConsumer,
    TopicPartition,
)
from comms.platform.registry import codec_of
from comms.platform.settings import Settings
from schemas.codec import Codec
from schemas.errors import ContractError
from schemas.events import StatusEvent
from schemas.topics import STATUS

log = structlog.get_logger(__name__)

GROUP = "comms-audit"
BATCH = 1000
GATHER_SECONDS = 0.05
IDLE_SECONDS = 0.5
RETRY_SECONDS = 1.0
MAINTAIN_SECONDS = 24 * 60 * 60.0
LOOK_SECONDS = 5.0


def run_audit(settings: Settings, stop: threading.Event) -> None:
    """Record status events until `stop` is set.

    Raises:
        SettingsError: no database or broker is named.
        OSError: the port for health and metrics is taken.
    """
    ingest = Ingest(
        broker=Broker(settings.need_kafka()),
        database_url=settings.need_database(),
        codec=codec_of(settings),
    )
    health = HealthServer(settings.http_host, settings.http_port, ingest.problems)
    health.start()
    log.info("service.started")
    try:
        ingest.run(stop)
    finally:
        health.stop()


@dataclass(frozen=True, slots=True)
class Told:
    """An event and the record it came in."""

    record: Record
    event: StatusEvent


class Ingest:
    """Sessions of reading and recording, one after another."""

    def __init__(self, *, broker: Broker, database_url: str, codec: Codec) -> None:
        self._broker, self._database_url, self._codec = broker, database_url, codec
        self._restart: set[TopicPartition] = set()
        self._problem: str | None = "starting"

    def problems(self) -> list[str]:
        """What keeps events from being recorded."""
        return [self._problem] if self._problem else []

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                with merge.connect(self._database_url) as connection:
                    self._session(connection, stop)
            except LogReplacedError as error:
                # An alarm, not a trace: somebody should know that a broker lost its records.
                log.error("audit.log_replaced", problem=str(error))  # noqa: TRY400
                self._restart |= error.places
            except (DatabaseError, KafkaFault, OffsetConflictError) as error:
                self._problem = str(error)
                log.warning("audit.session_ended", problem=str(error))
                stop.wait(RETRY_SECONDS)

    def _session(self, connection: Connection, stop: threading.Event) -> None:
        positions = Positions(connection, self._restart)
        producer = self._broker.producer()
        consumer = self._broker.consumer(
            GROUP,
            [STATUS],
            positions=positions.load,
            rebalance=Rebalance(revoked=positions.forget, lost=positions.forget),
        )
        recorder = Recorder(connection, positions, producer, self._codec)
        chores = Chores(connection, self._broker, consumer)
        try:
            while not stop.is_set():
                chores.maintain()
                records = gather(consumer)
                if records:
                    recorder.record(records)
                    self._problem = None
                else:
                    self._problem = chores.look()
                if self._problem is None:
                    positions.expect_witnesses()
        finally:
            consumer.close()
            producer.close(1.0)


def gather(consumer: TopicConsumer) -> list[Record]:
    """What there is to record: a full batch, or what arrives soon after the first record."""
    records = consumer.poll(BATCH, IDLE_SECONDS)
    end = time.monotonic() + GATHER_SECONDS
    while records and len(records) < BATCH and (left := end - time.monotonic()) > 0:
        records += consumer.poll(BATCH - len(records), left)
    return records


class Recorder:
    """Records a batch: events into the store, and what is none among the dead letters."""

    def __init__(
        self,
        connection: Connection,
        positions: Positions,
        producer: EventProducer,
        codec: Codec,
    ) -> None:
        self._connection, self._positions = connection, positions
        self._producer, self._codec = producer, codec

    def record(self, records: Sequence[Record]) -> None:
        """Store the batch and how far it reaches, all or nothing.

        Raises:
            OffsetConflictError: somebody else reads the same partition.
            DatabaseError, KafkaFault: nothing is stored; the batch will be read again.
        """
        fresh = self._positions.unread(records)
        if not fresh:
            return
        steps = self._positions.steps(fresh)
        told = [item for record in fresh if (item := self._told(record))]
        self._store(told, steps)
        self._positions.moved(steps)
        oldest = min(record.timestamp for record in fresh) / 1000
        metrics.audit_lag_seconds.set(max(0.0, time.time() - oldest))

    def _told(self, record: Record) -> Told | None:
        try:
            return Told(record, self._codec.decode(record.value, StatusEvent))
        except ContractError as error:
            send_to_dead_letters(self._producer, record, detail=str(error))
            return None

    def _store(self, told: Sequence[Told], steps: Mapping[TopicPartition, Step]) -> None:
        """A refusal is narrowed down to the event that caused it, by halves."""
        try:
            merge.merge(self._connection, [item.event for item in told], steps)
        except EventRefusedError as error:
            if len(told) == 1:
                send_to_dead_letters(self._producer, told[0].record, detail=str(error))
            else:
                middle = len(told) // 2
                self._store(told[:middle], {})
                self._store(told[middle:], {})
            if steps:
                merge.merge(self._connection, [], steps)


class Chores:
    """What a reader does now and then: partitions for the months to come, and a look around."""

    def __init__(
        self,
        connection: Connection,
        broker: Broker,
        consumer: TopicConsumer,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._broker, self._consumer = connection, broker, consumer
        self._monotonic = monotonic
        self._maintained = self._looked = -MAINTAIN_SECONDS
        self._seen: str | None = "starting"

    def maintain(self) -> None:
        """Once a day. Rows that find no partition go to the default one and are not lost."""
        if self._monotonic() - self._maintained < MAINTAIN_SECONDS:
            return
        self._maintained = self._monotonic()
        for schema in ("audit", "consumers"):
            try:
                with translated():
                    self._connection.execute(f"SELECT {schema}.ensure_partitions()".encode())
            except DatabaseRefusedError as error:
                log.error(  # noqa: TRY400 - the sentence says it all
                    "audit.partitions_not_made", schema=schema, problem=str(error)
                )

    def look(self) -> str | None:
        """Nothing arrived: whether that is because there is nothing.

        Raises:
            DatabaseError: the store does not answer.
        """
        if self._seen is None and self._monotonic() - self._looked < LOOK_SECONDS:
            self._caught_up()
            return None
        self._looked = self._monotonic()
        self._seen = self._trouble()
        if self._seen is None:
            self._caught_up()
        return self._seen

    def _trouble(self) -> str | None:
        try:
            known = self._broker.topic_names(2.0)
        except KafkaFault as error:
            return str(error)
        if STATUS not in known:
            return f"topic {STATUS} does not exist"
        return None if self._consumer.assignment else "waits for its share of the partitions"

    def _caught_up(self) -> None:
        """All that was published until now is recorded; the queries rely on it."""
        metrics.audit_lag_seconds.set(0)
        with translated():
            self._connection.execute(
                "UPDATE audit.consumer_offset SET caught_up_at = now()"
                " WHERE topic = %s AND partition = ANY(%s)",
                (STATUS, [partition for _, partition in self._consumer.assignment]),
            )
