"""The consumer: a member of a group, its records, and the callbacks of a rebalance.

The channel processes, the relay and the audit service read topics with a `TopicConsumer`, made by
`Broker.consumer`. It gives them `Record`s and commits the offsets that they pass to it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
    KafkaFault,
    KafkaUnavailableError,
    LoginState,
    to_fault,
)
from comms.platform.kafka.membership import GroupState, IdleTimer, ReadTopicIds, TopicIdTracker
from comms.platform.kafka.producing import TopicPartition
from comms.platform.kafka.records import Record, to_record
from schemas.topics import LARGEST_RECORD

log = structlog.get_logger(__name__)

LEAVE_SECONDS = 15.0  # the longest wait for a stable group before leaving it


@dataclass(frozen=True, slots=True)
class Rebalance:
    """The callbacks of a consumer's owner for changes of its partitions.

    Args:
        on_assign: called with the new partitions, after they are assigned.
        on_revoke: called with the partitions to hand over. It finishes their work and commits, in a
            bounded time.
        on_lost: called with partitions that already belong to another member. It forgets them and
            commits nothing.
        on_restart: called with a partition that is read from its beginning, because its log does
            not have the next offset. Earlier offsets may come again, for other records.
    """

    on_assign: Callable[[Sequence[TopicPartition]], None] = lambda _: None
    on_revoke: Callable[[Sequence[TopicPartition]], None] = lambda _: None
    on_lost: Callable[[Sequence[TopicPartition]], None] = lambda _: None
    on_restart: Callable[[TopicPartition], None] = lambda _: None


class TopicConsumer:
    """Reads topics as a member of a group. Only one thread may call it.

    A partition without a committed offset is read from its beginning. If the log does not have the
    committed offset, the broker lost records: this is logged as an error, and the partition is read
    from its beginning. All readers of a topic recognise what they have already processed.

    Args:
        read_topic_ids: reads the ids of topics; another id means another log.
        delete_if_stuck: deletes a group by its name if it can never become stable.
        positions: returns the offsets to start from, instead of the committed offsets of the group.
            It is called for each assignment.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        *,
        group: str,
        topics: Sequence[str],
        rebalance: Rebalance | None = None,
        read_topic_ids: ReadTopicIds,
        delete_if_stuck: Callable[[str], bool],
        positions: Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int]] | None = None,
    ) -> None:
        self.group = group
        self.assignment: set[TopicPartition] = set()
        self.resets = 0
        self._topics = list(topics)
        self._rebalance = rebalance or Rebalance()
        self._positions = positions or self._committed
        self._delete_if_stuck = delete_if_stuck
        self._login = LoginState()
        self._group_state = GroupState()
        self._topic_ids = TopicIdTracker(read_topic_ids, topics)
        self._idle_timer = IdleTimer()
        self._paused: set[TopicPartition] = set()
        self._held: list[Record] = []  # read, and kept for the next poll
        self._consumer = self._new_client(properties)
        self._join()

    def poll(self, limit: int, seconds: float) -> list[Record]:
        """Return at most `limit` records; wait up to `seconds` for the first one only.

        Raises:
            KafkaUnavailableError: the broker reports a fault that a later call may not see.
            KafkaRefusedError: this client may not read the group or topic, or the cluster refused
                our credentials.
        """
        try:
            if resumed := self._paused & self.assignment:
                self._consumer.resume([KafkaTopicPartition(*partition) for partition in resumed])
            self._paused.clear()
            if self._idle_timer.is_rejoin_due(has_partitions=bool(self.assignment)):
                self._rejoin()
            first = self._consumer.poll(seconds)
            if first is None:
                self._raise_if_refused()
                return self._without_replaced_logs([])
            rest = self._consumer.consume(limit - 1, 0) if limit > 1 else []
        except KafkaException as error:
            raise to_fault(error.args[0]) from error
        # These records were fetched and will not come again, so a fault beside them is only logged.
        results = [self._read(message) for message in (first, *rest)]
        records = [result for result in results if isinstance(result, Record)]
        faults = [result for result in results if isinstance(result, KafkaFault)]
        if faults and not records:
            raise faults[0]
        for fault in faults:
            log.warning("kafka.fault", problem=str(fault))
        return self._without_replaced_logs(records)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset of each partition that is still assigned, and wait for it.

        Nothing is committed to a log that was replaced, because its first records would be skipped.

        Raises:
            KafkaUnavailableError: nothing was committed; the records will be read again.
        """
        assigned = [
            KafkaTopicPartition(topic, partition, offset)
            for (topic, partition), offset in offsets.items()
            if (topic, partition) in self.assignment
        ]
        if not assigned:
            return
        if not self._topic_ids.is_unchanged():
            self._topic_ids.mark_stale()
            raise KafkaUnavailableError("the topic was created again")
        try:
            self._consumer.commit(offsets=assigned, asynchronous=False)
        except KafkaException as error:
            raise to_fault(error.args[0]) from error

    def poll_paused(self, seconds: float) -> None:
        """Fetch no records for `seconds`, but handle rebalances and errors.

        This is for long breaks: records that were fetched in advance are fetched again afterwards.

        Raises:
            KafkaUnavailableError: see `poll`.
        """
        to_pause = self.assignment - self._paused
        try:
            if to_pause:
                self._consumer.pause([KafkaTopicPartition(*partition) for partition in to_pause])
                self._paused |= to_pause
            message = self._consumer.poll(seconds)
        except KafkaException as error:
            raise to_fault(error.args[0]) from error
        if message is not None and isinstance(record := self._read(message), Record):
            self._held.append(record)  # it was fetched before the pause

    def high_watermark(self, partition: TopicPartition) -> int:
        """Return the end of a partition at the last fetch; -1 before the first fetch."""
        _, high = self._consumer.get_watermark_offsets(KafkaTopicPartition(*partition), cached=True)
        return int(high)

    def close(self) -> None:
        """Leave the group, when it is stable or after a time limit; `on_revoke` is called first."""
        deadline = time.monotonic() + LEAVE_SECONDS
        report_count = self._group_state.report_count
        try:
            while time.monotonic() < deadline:
                self._consumer.poll(0.05)
                if self._group_state.is_stable(since=report_count):
                    break
        except KafkaException as error:
            log.debug("kafka.fault", problem=str(error))
        try:
            self._consumer.close()
        except KafkaException as error:
            raise to_fault(error.args[0]) from error

    def _new_client(self, properties: Mapping[str, str]) -> Consumer:
        return Consumer(
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
                "group.id": self.group,
                "enable.auto.commit": "false",
                "enable.auto.offset.store": "false",
                "auto.offset.reset": "error",
                "partition.assignment.strategy": "cooperative-sticky",
                "statistics.interval.ms": "500",
                "stats_cb": self._group_state.on_statistics,
                "error_cb": self._on_error,
            },
            logger=CLIENT_LOG,
        )

    def _rejoin(self) -> None:
        """Join the group again, because this member had no partitions for a long time."""
        try:
            was_stuck = self._delete_if_stuck(self.group)
        except KafkaFault as fault:
            log.warning("kafka.fault", problem=str(fault))
            was_stuck = False
        log.info("kafka.rejoined", group=self.group, group_was_stuck=was_stuck)
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
        self._login.on_error(error)
        self._topic_ids.mark_stale()

    def _without_replaced_logs(self, records: list[Record]) -> list[Record]:
        """Return the records of logs that were not replaced, with those that were held.

        A partition whose log was replaced is read from its beginning.

        Raises:
            KafkaUnavailableError: the topic ids cannot be read; the records are held for the next
                poll.
        """
        if self._held:
            records = self._held + records
            self._held = []
        if not records or not self._topic_ids.is_stale:
            return records
        try:
            replaced = self._topic_ids.find_replaced()
        except KafkaFault:
            self._held = records
            raise
        for topic, number in sorted(self.assignment):
            if topic in replaced:
                log.error("kafka.log_replaced", topic=topic, partition=number)
                self._restart((topic, number))
        return [record for record in records if record.topic not in replaced]

    def _raise_if_refused(self) -> None:
        """Raise if the cluster refused our credentials and this member has no partitions.

        A member that has partitions was accepted once. A refusal may then be temporary, for example
        while a broker shuts down.

        Raises:
            KafkaRefusedError: the cluster refused our credentials.
        """
        if self.assignment:
            self._login.mark_accepted()
        elif fault := self._login.refusal():
            raise fault

    def _read(self, message: Message) -> Record | KafkaFault | None:
        error = message.error()
        if error is None:
            return to_record(message)
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._on_offset_out_of_range((message.topic() or "", message.partition() or 0))
            return None
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        return to_fault(error)

    def _on_offset_out_of_range(self, partition: TopicPartition) -> None:
        if partition not in self.assignment:
            return
        log.error("kafka.offset_out_of_range", topic=partition[0], partition=partition[1])
        self._restart(partition)

    def _restart(self, partition: TopicPartition) -> None:
        """Read a partition from its beginning."""
        self.resets += 1
        self._held = [record for record in self._held if record.topic_partition != partition]
        self._paused.discard(partition)
        try:
            # The client has stopped fetching the partition and cannot seek in it. Therefore the
            # partition is assigned again.
            self._consumer.incremental_unassign([KafkaTopicPartition(*partition)])
            self._consumer.incremental_assign([KafkaTopicPartition(*partition, OFFSET_BEGINNING)])
            self._consumer.resume([KafkaTopicPartition(*partition)])
        except KafkaException as error:
            raise to_fault(error.args[0]) from error
        self._rebalance.on_restart(partition)

    def _committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        request = [KafkaTopicPartition(*partition) for partition in partitions]
        offsets = self._consumer.committed(request, timeout=10)
        return {(tp.topic, tp.partition): tp.offset for tp in offsets if tp.offset >= 0}

    def _on_assign(self, consumer: Consumer, assigned: list[KafkaTopicPartition]) -> None:
        partitions = _pairs(assigned)
        self._group_state.on_partitions_moved()
        offsets = self._positions(partitions) if partitions else {}
        starts = [
            KafkaTopicPartition(*partition, offsets.get(partition, OFFSET_BEGINNING))
            for partition in partitions
        ]
        consumer.incremental_assign(starts)
        consumer.resume(starts)  # a pause outlives the assignment in which it began
        self.assignment.update(partitions)
        self._rebalance.on_assign(partitions)

    def _on_revoke(self, consumer: Consumer, revoked: list[KafkaTopicPartition]) -> None:
        partitions = _pairs(revoked)
        self._group_state.on_partitions_moved()
        self._rebalance.on_revoke(partitions)
        self._forget(partitions)
        consumer.incremental_unassign(revoked)

    def _on_lost(self, consumer: Consumer, lost: list[KafkaTopicPartition]) -> None:
        partitions = _pairs(lost)
        self._group_state.on_partitions_moved()
        self._forget(partitions)
        self._rebalance.on_lost(partitions)
        consumer.incremental_unassign(lost)

    def _forget(self, partitions: Sequence[TopicPartition]) -> None:
        self.assignment.difference_update(partitions)
        self._paused.difference_update(partitions)
        self._held = [r for r in self._held if r.topic_partition in self.assignment]


def _pairs(partitions: Sequence[KafkaTopicPartition]) -> list[TopicPartition]:
    return [(tp.topic, tp.partition) for tp in partitions]
