"""Reading: a member of a group, its records, and what happens when its partitions change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from comms.kafka.faults import CLIENT_LOG, KafkaFault, fault_of
from comms.kafka.producing import Headers, Place
from schemas.topics import LARGEST_RECORD

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """A record read from a topic; `timestamp` in milliseconds since the epoch, 0 if unknown."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: int
    headers: Headers = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return self.topic, self.partition


def record_of(message: Message) -> Record:
    """A message that librdkafka read without an error."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value() or b"",
        max(0, message.timestamp()[1]),
        {name: value or b"" for name, value in headers},
    )


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
            return record_of(message)
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
