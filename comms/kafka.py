"""Kafka: clients made one way, and the one seam where librdkafka's errors become ours.

Every service gets a `Broker` from its settings and asks it for an `EventProducer` or a
`TopicConsumer`. Bytes go in and records come out; no `KafkaException` passes this module.

    KafkaFault
    ├── KafkaUnavailableError   retry: no broker answers, or it cannot do it now
    └── KafkaRefusedError       do not retry: the record or the client is not acceptable
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.topics import LARGEST_RECORD, TOPICS, Topic

log = structlog.get_logger(__name__)
CLIENT_LOG = logging.getLogger("kafka.client")  # librdkafka's own lines

Headers = Mapping[str, bytes]
Place = tuple[str, int]  # (topic, partition)


class KafkaFault(Exception):  # noqa: N818 - the base; what is caught are the two below
    """Kafka did not do what was asked."""


class KafkaUnavailableError(KafkaFault):
    """No broker answers, or it cannot do it now; the same call may succeed later."""


class KafkaRefusedError(KafkaFault):
    """The broker will not take this, now or later (too large, not authorised)."""


_REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._INVALID_ARG,
    }
)

Ack = Callable[[KafkaFault | None], None]


def fault_of(error: KafkaError) -> KafkaFault:
    """Our error for one of librdkafka's."""
    kind = KafkaRefusedError if error.code() in _REFUSALS else KafkaUnavailableError
    return kind(f"{error.name()}: {error.str()}")


@dataclass(frozen=True, slots=True)
class Record:
    """A record read from a topic; `timestamp` in milliseconds since the epoch, 0 if unknown."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: int

    @property
    def place(self) -> Place:
        return self.topic, self.partition


class EventProducer:
    """Publishes records and reports each acknowledgement; safe to use from any thread.

    Acknowledgements arrive on a thread of its own. A fatal error of the client (a broker that
    restarted without its memory forgets idempotent producers) replaces the client; what was in
    flight is reported as unavailable, and its owner publishes it again.
    """

    def __init__(self, properties: Mapping[str, str], *, idempotent: bool = False) -> None:
        self._properties = {
            "acks": "all",
            "enable.idempotence": str(idempotent).lower(),
            "linger.ms": "2",
            "compression.type": "lz4",
            "message.max.bytes": str(LARGEST_RECORD),
            "queue.buffering.max.messages": "500000",
            "delivery.timeout.ms": "30000",
            "topic.metadata.refresh.interval.ms": "10000",
            "reconnect.backoff.max.ms": "1000",
            **properties,
        }
        self._lock = threading.Lock()
        self._broken = False
        self._closing = threading.Event()
        self._client = self._new_client()
        self._poller = threading.Thread(target=self._poll, name="kafka-acks", daemon=True)
        self._poller.start()

    def publish(
        self,
        topic: str,
        *,
        key: str,
        value: bytes,
        on_ack: Ack | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Hand a record over; `on_ack(None)` follows once every in-sync replica has it.

        Raises:
            KafkaUnavailableError: the client's buffer is full.
            KafkaRefusedError: the record is not acceptable.
        """
        client = self._healthy_client()
        try:
            client.produce(
                topic,
                key=key.encode(),
                value=value,
                headers=dict(headers) if headers else None,
                on_delivery=self._reporter(on_ack),
            )
        except BufferError as error:
            raise KafkaUnavailableError("the producer's buffer is full") from error
        except KafkaException as error:
            raise fault_of(error.args[0]) from error

    def flush(self, seconds: float) -> int:
        """Wait until everything handed over is reported; the number still open after `seconds`."""
        try:
            return self._client.flush(seconds)
        except KafkaException as error:
            self._on_error(error.args[0])
            return len(self._client)

    def close(self, seconds: float = 10.0) -> None:
        """Flush and release the client."""
        self.flush(seconds)
        self._closing.set()
        self._poller.join(2.0)

    def _new_client(self) -> Producer:
        return Producer({**self._properties, "error_cb": self._on_error}, logger=CLIENT_LOG)

    def _healthy_client(self) -> Producer:
        if not self._broken:
            return self._client
        with self._lock:
            if self._broken:
                old, self._client, self._broken = self._client, self._new_client(), False
                old.purge()
                old.poll(0.1)
            return self._client

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = True
            log.error("kafka.producer_replaced", problem=error.str())

    def _reporter(self, on_ack: Ack | None) -> Callable[[KafkaError | None, Message], None]:
        def report(error: KafkaError | None, _: Message) -> None:
            if error is not None and error.fatal():
                self._broken = True
            if on_ack is not None:
                on_ack(None if error is None else fault_of(error))

        return report

    def _poll(self) -> None:
        while not self._closing.is_set():
            try:
                self._client.poll(0.1)
            except KafkaException as error:
                self._on_error(error.args[0])
                self._closing.wait(0.1)


@dataclass(frozen=True, slots=True)
class Rebalance:
    """What a consumer's owner does when its partitions change.

    Args:
        assigned: given the new partitions, after they are assigned.
        revoked: given those to be handed over: finish, commit, return in bounded time.
        lost: given those already gone: forget them, commit nothing.
    """

    assigned: Callable[[Sequence[Place]], None] = lambda _: None
    revoked: Callable[[Sequence[Place]], None] = lambda _: None
    lost: Callable[[Sequence[Place]], None] = lambda _: None


class TopicConsumer:
    """Reads topics as a member of a group. One thread alone may call it.

    A partition with no committed offset is read from its beginning. A committed offset that the log
    does not have (the broker lost what it held) is an alarm, and the partition is read from its
    beginning: everything downstream recognises what it has seen before.

    Args:
        positions: where to start, in place of the group's committed offsets; called on assignment.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        group: str,
        topics: Sequence[str],
        rebalance: Rebalance | None = None,
        positions: Callable[[Sequence[Place]], Mapping[Place, int]] | None = None,
    ) -> None:
        self._rebalance = rebalance or Rebalance()
        self._positions = positions or self._committed
        self.assignment: set[Place] = set()
        self.resets = 0
        self._consumer = Consumer(
            {
                "session.timeout.ms": "6000",
                "heartbeat.interval.ms": "1000",
                "max.poll.interval.ms": "300000",
                "fetch.wait.max.ms": "20",
                "fetch.message.max.bytes": str(LARGEST_RECORD),
                "topic.metadata.refresh.interval.ms": "5000",
                "allow.auto.create.topics": "false",
                "reconnect.backoff.max.ms": "1000",
                **properties,
                "group.id": group,
                "enable.auto.commit": "false",
                "enable.auto.offset.store": "false",
                "auto.offset.reset": "error",
                "partition.assignment.strategy": "cooperative-sticky",
                "error_cb": lambda error: log.debug("kafka.error", problem=error.str()),
            },
            logger=CLIENT_LOG,
        )
        self._consumer.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def poll(self, most: int, seconds: float) -> list[Record]:
        """At most `most` records; waits up to `seconds` for the first and not at all for the rest.

        Raises:
            KafkaUnavailableError: the broker says something that a later call may not see.
            KafkaRefusedError: the group or topic may not be read.
        """
        try:
            first = self._consumer.poll(seconds)
            if first is None:
                return []
            rest = self._consumer.consume(most - 1, 0) if most > 1 else []
        except KafkaException as error:
            raise fault_of(error.args[0]) from error
        # A fault beside records must not take them along: they are read, and will not come again.
        read = [self._record(message) for message in (first, *rest)]
        records = [record for record in read if isinstance(record, Record)]
        faults = [fault for fault in read if isinstance(fault, KafkaFault)]
        if faults and not records:
            raise faults[0]
        for fault in faults:
            log.warning("kafka.fault", problem=str(fault))
        return records

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Commit the next offset to read of each partition that is still ours; waits for it.

        Raises:
            KafkaUnavailableError: the commit did not happen; the records will be read again.
        """
        ours = [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in offsets.items()
            if (topic, partition) in self.assignment
        ]
        if ours:
            try:
                self._consumer.commit(offsets=ours, asynchronous=False)
            except KafkaException as error:
                raise fault_of(error.args[0]) from error

    def high_watermark(self, place: Place) -> int:
        """The end of a partition as the last fetch saw it; -1 before one."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        return int(high)

    def close(self) -> None:
        """Leave the group; `revoked` runs first."""
        try:
            self._consumer.close()
        except KafkaException as error:
            raise fault_of(error.args[0]) from error

    def _record(self, message: Message) -> Record | KafkaFault | None:
        error = message.error()
        if error is None:
            return Record(
                message.topic() or "",
                message.partition() or 0,
                message.offset() or 0,
                message.key(),
                message.value() or b"",
                message.timestamp()[1],
            )
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._start_over((message.topic() or "", message.partition() or 0))
            return None
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        return fault_of(error)

    def _start_over(self, place: Place) -> None:
        self.resets += 1
        log.error("kafka.offset_out_of_range", topic=place[0], partition=place[1])
        try:
            self._consumer.seek(TopicPartition(*place, OFFSET_BEGINNING))
        except KafkaException as error:
            raise fault_of(error.args[0]) from error

    def _committed(self, places: Sequence[Place]) -> Mapping[Place, int]:
        asked = [TopicPartition(*place) for place in places]
        found = self._consumer.committed(asked, timeout=10)
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(tp.topic, tp.partition) for tp in partitions]
        known = self._positions(places) if places else {}
        consumer.incremental_assign(
            [TopicPartition(*place, known.get(place, OFFSET_BEGINNING)) for place in places]
        )
        self.assignment.update(places)
        self._rebalance.assigned(places)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(tp.topic, tp.partition) for tp in partitions]
        self._rebalance.revoked(places)
        self.assignment.difference_update(places)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(tp.topic, tp.partition) for tp in partitions]
        self.assignment.difference_update(places)
        self._rebalance.lost(places)
        consumer.incremental_unassign(partitions)


@dataclass(frozen=True, slots=True)
class Broker:
    """A Kafka cluster as the settings describe it: librdkafka properties for every client."""

    properties: Mapping[str, str]

    def producer(self, *, idempotent: bool = False) -> EventProducer:
        """A producer; `idempotent` where the order of a partition must survive retries."""
        return EventProducer(self.properties, idempotent=idempotent)

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        *,
        rebalance: Rebalance | None = None,
        positions: Callable[[Sequence[Place]], Mapping[Place, int]] | None = None,
    ) -> TopicConsumer:
        """A member of `group` reading `topics`."""
        return TopicConsumer(
            self.properties, group=group, topics=topics, rebalance=rebalance, positions=positions
        )

    def apply_topics(self, topics: Iterable[Topic] = TOPICS) -> list[str]:
        """Create the topics that do not exist; returns their names.

        Raises:
            KafkaUnavailableError, KafkaRefusedError: a topic could not be created.
        """
        admin = self._admin()
        missing = [topic for topic in topics if topic.name not in self.topic_names()]
        if not missing:
            return []
        futures = admin.create_topics([_new_topic(topic) for topic in missing])
        for future in futures.values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise fault_of(error.args[0]) from error
        return [topic.name for topic in missing]

    def topic_names(self, seconds: float = 5.0) -> Mapping[str, int]:
        """The cluster's topics and their partition counts.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`.
        """
        try:
            found = self._admin().list_topics(timeout=seconds).topics
        except KafkaException as error:
            raise fault_of(error.args[0]) from error
        return {name: len(topic.partitions) for name, topic in found.items()}

    def wait_until_reachable(self, seconds: float) -> None:
        """Wait for a broker to answer.

        Raises:
            KafkaUnavailableError: none did within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.topic_names(min(2.0, seconds))
            except KafkaUnavailableError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def _admin(self) -> AdminClient:
        return AdminClient(dict(self.properties), logger=CLIENT_LOG)


def _new_topic(topic: Topic) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        config={
            "retention.ms": str(topic.retention_ms),
            "max.message.bytes": str(LARGEST_RECORD),
        },
    )
