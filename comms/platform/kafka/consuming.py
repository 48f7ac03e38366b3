"""Reading: a member of a group, its records, and what happens when its partitions change."""

import time
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
)
from confluent_kafka import (
    TopicPartition as KafkaTopicPartition,
)

from comms.platform.kafka.errors import (
    CLIENT_LOG,
    Admission,
    KafkaFault,
    KafkaUnavailableError,
    fault_of,
)
from comms.platform.kafka.membership import GroupState, Identify, Idle, LogIdentity
from comms.platform.kafka.producing import Headers, TopicPartition
from schemas.topics import LARGEST_RECORD

log = structlog.get_logger(__name__)

LEAVE_SECONDS = 15.0  # that a group may take until it is at rest and can be left


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
    def place(self) -> TopicPartition:
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
        begun_anew: given a partition that is read from its beginning, since its log does not have
            what came next: offsets seen before may come again, and mean other records.
    """

    assigned: Callable[[Sequence[TopicPartition]], None] = lambda _: None
    revoked: Callable[[Sequence[TopicPartition]], None] = lambda _: None
    lost: Callable[[Sequence[TopicPartition]], None] = lambda _: None
    begun_anew: Callable[[TopicPartition], None] = lambda _: None


class TopicConsumer:
    """Reads topics as a member of a group. One thread alone may call it.

    A partition with no committed offset is read from its beginning. A committed offset that the log
    does not have (the broker lost what it held) is an alarm, and the partition is read from its
    beginning: everything downstream recognises what it has seen before.

    Args:
        identify: the topics' ids, by which a log is known to be another one.
        dissolve_if_stuck: deletes a group by its name if nothing can come of it.
        positions: where to start, in place of the group's committed offsets; called on assignment.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        group: str,
        topics: Sequence[str],
        rebalance: Rebalance | None = None,
        identify: Identify,
        dissolve_if_stuck: Callable[[str], bool],
        positions: Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int]] | None = None,
    ) -> None:
        self._rebalance = rebalance or Rebalance()
        self._positions = positions or self._committed
        self.assignment: set[TopicPartition] = set()
        self.resets = 0
        self._admission, self._group = Admission(), GroupState()
        self._logs, self._held = LogIdentity(identify, topics), list[Record]()
        self._consumer = Consumer(
            {
                "session.timeout.ms": "6000",
                "heartbeat.interval.ms": "500",
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
                "statistics.interval.ms": "500",
                "stats_cb": self._group.heard,
                "error_cb": self._on_error,
            },
            logger=CLIENT_LOG,
        )
        self.group, self._dissolve_if_stuck = group, dissolve_if_stuck
        self._topics, self._idle = list(topics), Idle()
        self._paused: set[TopicPartition] = set()
        self._join()

    def poll(self, most: int, seconds: float) -> list[Record]:
        """At most `most` records; waits up to `seconds` for the first and not at all for the rest.

        Raises:
            KafkaUnavailableError: the broker says something that a later call may not see.
            KafkaRefusedError: the group or topic may not be read, or the cluster lets us not in.
        """
        try:
            if going := self._paused & self.assignment:
                self._consumer.resume([KafkaTopicPartition(*place) for place in going])
            self._paused.clear()
            if self._idle.is_too_long(bool(self.assignment)):
                self._join_anew()
            first = self._consumer.poll(seconds)
            if first is None:
                self._require_admission()
                return self._of_the_same_log([])
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
        return self._of_the_same_log(records)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read of each partition that is still ours; waits for it.

        Nothing is committed into a log that is another one: read from there, it would be skipped.

        Raises:
            KafkaUnavailableError: the commit did not happen; the records will be read again.
        """
        ours = [
            KafkaTopicPartition(topic, partition, offset)
            for (topic, partition), offset in offsets.items()
            if (topic, partition) in self.assignment
        ]
        if not ours:
            return
        if not self._logs.is_same():
            self._logs.doubt()
            raise KafkaUnavailableError("the log is another one")
        try:
            self._consumer.commit(offsets=ours, asynchronous=False)
        except KafkaException as error:
            raise fault_of(error.args[0]) from error

    def stand_by(self, seconds: float) -> None:
        """Take no records for so many seconds, and serve everything else: partitions that come and
        go, errors. For long stops: what was fetched ahead is fetched again afterwards.

        Raises:
            KafkaUnavailableError: as `poll` does.
        """
        standing = self.assignment - self._paused
        try:
            if standing:
                self._consumer.pause([KafkaTopicPartition(*place) for place in standing])
                self._paused |= standing
            message = self._consumer.poll(seconds)
        except KafkaException as error:
            raise fault_of(error.args[0]) from error
        if message is not None and isinstance(record := self._record(message), Record):
            self._held.append(record)  # it was on its way

    def high_watermark(self, place: TopicPartition) -> int:
        """The end of a partition as the last fetch saw it; -1 before one."""
        _, high = self._consumer.get_watermark_offsets(KafkaTopicPartition(*place), cached=True)
        return int(high)

    def close(self) -> None:
        """Leave the group; `revoked` runs first. Waits a while for a group that is being formed."""
        deadline, told = time.monotonic() + LEAVE_SECONDS, self._group.told
        try:
            while time.monotonic() < deadline:
                self._consumer.poll(0.05)
                if self._group.is_at_rest(since=told):
                    break
        except KafkaException as error:
            log.debug("kafka.fault", problem=str(error))
        try:
            self._consumer.close()
        except KafkaException as error:
            raise fault_of(error.args[0]) from error

    def _join_anew(self) -> None:
        """Nobody gave us anything to read for long."""
        try:
            dissolved = self._dissolve_if_stuck(self.group)
        except KafkaFault as fault:
            log.warning("kafka.fault", problem=str(fault))
            dissolved = False
        log.info("kafka.rejoined", group=self.group, group_was_stuck=dissolved)
        self._consumer.unsubscribe()
        self._join()

    def _join(self) -> None:
        self._consumer.subscribe(
            self._topics,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _on_error(self, error: KafkaError) -> None:
        self._admission.heard(error)
        self._logs.doubt()

    def _of_the_same_log(self, records: list[Record]) -> list[Record]:
        """`records` without those of a log that is not the one that was read so far: that one is
        read from its beginning.

        Raises:
            KafkaUnavailableError: it cannot be told; the records are kept for the next poll.
        """
        if self._held:
            records, self._held = self._held + records, []
        if not records or not self._logs.in_doubt:
            return records
        try:
            replaced = self._logs.replaced()
        except KafkaFault:
            self._held = records
            raise
        for place in sorted(self.assignment):
            if place[0] in replaced:
                log.error("kafka.log_replaced", topic=place[0], partition=place[1])
                self._begin_anew(place)
        return [record for record in records if record.topic not in replaced]

    def _require_admission(self) -> None:
        """Who has partitions was let in once: that it is not now may pass, as a broker's end does.

        Raises:
            KafkaRefusedError: this client was not let in.
        """
        if self.assignment:
            self._admission.given()
        elif fault := self._admission.denied():
            raise fault

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

    def _start_over(self, place: TopicPartition) -> None:
        if place not in self.assignment:
            return
        log.error("kafka.offset_out_of_range", topic=place[0], partition=place[1])
        self._begin_anew(place)

    def _begin_anew(self, place: TopicPartition) -> None:
        self.resets += 1
        self._held = [record for record in self._held if record.place != place]
        self._paused.discard(place)
        try:
            # Assigned anew, for the client has stopped fetching it and seeks only where it fetches.
            self._consumer.incremental_unassign([KafkaTopicPartition(*place)])
            self._consumer.incremental_assign([KafkaTopicPartition(*place, OFFSET_BEGINNING)])
            self._consumer.resume([KafkaTopicPartition(*place)])
        except KafkaException as error:
            raise fault_of(error.args[0]) from error
        self._rebalance.begun_anew(place)

    def _committed(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        asked = [KafkaTopicPartition(*place) for place in places]
        found = self._consumer.committed(asked, timeout=10)
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
        places = [(tp.topic, tp.partition) for tp in partitions]
        self._group.moved()
        known = self._positions(places) if places else {}
        found = [
            KafkaTopicPartition(*place, known.get(place, OFFSET_BEGINNING)) for place in places
        ]
        consumer.incremental_assign(found)
        consumer.resume(found)  # a pause outlives the assignment in which it began
        self.assignment.update(places)
        self._rebalance.assigned(places)

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
        places = [(tp.topic, tp.partition) for tp in partitions]
        self._group.moved()
        self._rebalance.revoked(places)
        self._gone(places)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
        places = [(tp.topic, tp.partition) for tp in partitions]
        self._group.moved()
        self._gone(places)
        self._rebalance.lost(places)
        consumer.incremental_unassign(partitions)

    def _gone(self, places: Sequence[TopicPartition]) -> None:
        self.assignment.difference_update(places)
        self._paused.difference_update(places)
        self._held = [record for record in self._held if record.place in self.assignment]
