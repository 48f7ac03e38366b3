"""The audit service: follows `comms.status` and records what it says, each event exactly once.

`comms run audit` calls `run_audit` on its main thread, which then reads, decodes and merges until
it is stopped. A problem outside (no broker, no database, a partition that is revoked in the middle
of a batch) ends the session; the next one begins at the stored offsets. A record that cannot be
decoded or stored goes to `comms.dead-letters`, and reading goes on.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from audit import merge
from audit.dead_letters import send_to_dead_letters
from audit.merge import Connection, EventRefusedError, OffsetConflictError, OffsetMove
from audit.positions import LogReplacedError, StoredOffsets
from comms.platform import metrics
from comms.platform.database import DatabaseError, DatabaseRefusedError, translate_errors
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
from comms.platform.registry import build_codec
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
CHECK_SECONDS = 5.0


def run_audit(settings: Settings, stop: threading.Event) -> None:
    """Record status events until `stop` is set.

    Raises:
        SettingsError: no database or broker is named.
        OSError: the port for health and metrics is taken.
    """
    ingest = Ingest(
        broker=Broker(settings.need_kafka()),
        database_url=settings.need_database(),
        codec=build_codec(settings),
    )
    health = HealthServer(settings.http_host, settings.http_port, ingest.problems)
    health.start()
    log.info("service.started")
    try:
        ingest.run(stop)
    finally:
        health.stop()


@dataclass(frozen=True, slots=True)
class DecodedEvent:
    """An event and the record it came in."""

    record: Record
    event: StatusEvent


class Ingest:
    """Sessions of reading and recording, one after another."""

    def __init__(self, *, broker: Broker, database_url: str, codec: Codec) -> None:
        self._broker = broker
        self._database_url = database_url
        self._codec = codec
        self._restart: set[TopicPartition] = set()
        self._problem: str | None = "starting"

    def problems(self) -> list[str]:
        """Return what keeps events from being recorded."""
        return [self._problem] if self._problem else []

    def run(self, stop: threading.Event) -> None:
        """Run sessions until `stop` is set."""
        while not stop.is_set():
            try:
                with merge.connect(self._database_url) as connection:
                    self._session(connection, stop)
            except LogReplacedError as error:
                # An alarm, not a trace: an operator should know that a broker lost its records.
                log.error("audit.log_replaced", problem=str(error))  # noqa: TRY400
                self._restart |= error.partitions
            except (DatabaseError, KafkaFault, OffsetConflictError) as error:
                self._problem = str(error)
                log.warning("audit.session_ended", problem=str(error))
                stop.wait(RETRY_SECONDS)

    def _session(self, connection: Connection, stop: threading.Event) -> None:
        offsets = StoredOffsets(connection, self._restart)
        producer = self._broker.producer()
        consumer = self._broker.consumer(
            GROUP,
            [STATUS],
            positions=offsets.load,
            rebalance=Rebalance(on_revoke=offsets.forget, on_lost=offsets.forget),
        )
        recorder = Recorder(connection, offsets, producer, self._codec)
        upkeep = Upkeep(connection, self._broker, consumer)
        try:
            while not stop.is_set():
                upkeep.make_partitions()
                records = read_batch(consumer)
                if records:
                    recorder.record(records)
                    self._problem = None
                else:
                    self._problem = upkeep.check_idle()
                if self._problem is None:
                    offsets.check_logs()
        finally:
            consumer.close()
            producer.close(1.0)


def read_batch(consumer: TopicConsumer) -> list[Record]:
    """Return a full batch, or what arrives soon after the first record."""
    records = consumer.poll(BATCH, IDLE_SECONDS)
    end = time.monotonic() + GATHER_SECONDS
    while records and len(records) < BATCH and (left := end - time.monotonic()) > 0:
        records += consumer.poll(BATCH - len(records), left)
    return records


class Recorder:
    """Records batches: events in the database, and records that are none as dead letters."""

    def __init__(
        self,
        connection: Connection,
        offsets: StoredOffsets,
        producer: EventProducer,
        codec: Codec,
    ) -> None:
        self._connection = connection
        self._offsets = offsets
        self._producer = producer
        self._codec = codec

    def record(self, records: Sequence[Record]) -> None:
        """Store a batch and how far it reaches, all or nothing.

        Raises:
            OffsetConflictError: another reader reads the same partition.
            DatabaseError, KafkaFault: nothing is stored; the batch will be read again.
        """
        unread = self._offsets.unread(records)
        if not unread:
            return
        moves = self._offsets.moves(unread)
        self._store([event for record in unread if (event := self._decode(record))], moves)
        self._offsets.moved(moves)
        oldest = min(record.timestamp for record in unread) / 1000
        metrics.audit_lag_seconds.set(max(0.0, time.time() - oldest))

    def _decode(self, record: Record) -> DecodedEvent | None:
        try:
            return DecodedEvent(record, self._codec.decode(record.value, StatusEvent))
        except ContractError as error:
            send_to_dead_letters(self._producer, record, detail=str(error))
            return None

    def _store(
        self, decoded: Sequence[DecodedEvent], moves: Mapping[TopicPartition, OffsetMove]
    ) -> None:
        """Store events. A refusal is narrowed down by halves to the event that caused it."""
        try:
            merge.merge(self._connection, [item.event for item in decoded], moves)
        except EventRefusedError as error:
            if len(decoded) == 1:
                send_to_dead_letters(self._producer, decoded[0].record, detail=str(error))
            else:
                middle = len(decoded) // 2
                self._store(decoded[:middle], {})
                self._store(decoded[middle:], {})
            if moves:
                merge.merge(self._connection, [], moves)


class Upkeep:
    """What a session does now and then: partitions of the months to come, and a check when idle."""

    def __init__(
        self,
        connection: Connection,
        broker: Broker,
        consumer: TopicConsumer,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._broker = broker
        self._consumer = consumer
        self._monotonic = monotonic
        self._partitions_made_at = -MAINTAIN_SECONDS
        self._checked_at = -MAINTAIN_SECONDS
        self._problem: str | None = "starting"

    def make_partitions(self) -> None:
        """Make missing partitions, once a day. A row that finds none goes to the default one."""
        if self._monotonic() - self._partitions_made_at < MAINTAIN_SECONDS:
            return
        self._partitions_made_at = self._monotonic()
        try:
            with translate_errors():
                self._connection.execute("SELECT audit.ensure_partitions()")
        except DatabaseRefusedError as error:
            log.error(  # noqa: TRY400 - the sentence says it all
                "audit.partitions_not_made", problem=str(error)
            )

    def check_idle(self) -> str | None:
        """Return why nothing arrived; None if there was nothing to read.

        Raises:
            DatabaseError: the database does not answer.
        """
        if self._problem is None and self._monotonic() - self._checked_at < CHECK_SECONDS:
            self._mark_caught_up()
            return None
        self._checked_at = self._monotonic()
        self._problem = self._reading_problem()
        if self._problem is None:
            self._mark_caught_up()
        return self._problem

    def _reading_problem(self) -> str | None:
        try:
            topics = self._broker.list_topics(2.0)
        except KafkaFault as error:
            return str(error)
        if STATUS not in topics:
            return f"topic {STATUS} does not exist"
        return None if self._consumer.assignment else "waits for its share of the partitions"

    def _mark_caught_up(self) -> None:
        """Everything published until now is recorded; queries and other services rely on it."""
        metrics.audit_lag_seconds.set(0)
        with translate_errors():
            self._connection.execute(
                "UPDATE audit.consumer_offset SET caught_up_at = now()"
                " WHERE topic = %s AND partition = ANY(%s)",
                (STATUS, [partition for _, partition in self._consumer.assignment]),
            )
