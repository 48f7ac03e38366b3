"""Publishes a batch of queue rows: all of its records are acknowledged, or the batch fails.

`producer.relay_session` passes rows in. Each row becomes a record of its channel's topic, together
with a `queued` event in `comms.status`. A record that Kafka will never accept, such as one that is
too large for the cluster, must not block the rest of its shard. The publisher publishes a `failed`
event for its message instead.
"""

import time
from collections.abc import Callable, Sequence
from threading import Event, Lock
from uuid import UUID

import structlog

from comms.platform.clock import Clock, utc_now
from comms.platform.kafka import EventProducer, KafkaFault, KafkaRefusedError, KafkaUnavailableError
from producer.rows import QueueRow, header_of
from producer.topic_identity import TopicIdentity
from schemas.codec import Codec
from schemas.events import ProviderResponse, StatusEvent, failed, queued
from schemas.topics import STATUS
from schemas.vocabulary import Reason

log = structlog.get_logger(__name__)

ACK_SECONDS = 30.0
# Errors of one record, and not of the cluster or of our permissions on it.
_RECORD_ERRORS = ("MSG_SIZE_TOO_LARGE", "INVALID_MSG", "INVALID_RECORD")


class BatchPublisher:
    """Publishes rows as Kafka records and waits for their acknowledgements. Not thread-safe.

    Args:
        stop: set when the process ends. The publisher then stops waiting for acknowledgements.
        topic_identity: read while acknowledgements are missing. If the topics were replaced, the
            acknowledgements cannot arrive any more.
    """

    def __init__(
        self,
        producer: EventProducer,
        codec: Codec,
        stop: Event,
        topic_identity: TopicIdentity,
        clock: Clock = utc_now,
    ) -> None:
        self._producer = producer
        self._codec = codec
        self._stop = stop
        self._topic_identity = topic_identity
        self._clock = clock
        self._refused: dict[UUID, str] = {}

    def publish(self, rows: Sequence[QueueRow], *, log_id: str, is_repeat: bool = False) -> None:
        """Publish `rows` in order and wait until all are acknowledged.

        Args:
            log_id: the identity of the topics that the rows are published to.
            is_repeat: the rows and their `queued` events were published before.

        Raises:
            KafkaUnavailableError: a record was not acknowledged; publish the whole batch again.
            KafkaRefusedError: the cluster refuses our records.
        """
        batch = _Batch()
        for row in rows:
            self._publish_row(row, batch, is_repeat=is_repeat)
        try:
            self._await_acks(batch, log_id)
        except KafkaFault:
            self.renew()  # a late record of this batch must not follow its repetition
            raise
        for row in rows:
            self._refused.pop(row.message_id, None)

    def renew(self) -> None:
        """Replace the Kafka producer by one that the cluster does not know."""
        self._producer.renew()

    def _publish_row(self, row: QueueRow, batch: "_Batch", *, is_repeat: bool) -> None:
        if row.message_id in self._refused and not row.is_event:
            event = self._failed_event(row)
        else:
            self._publish_record(batch, row.topic, row.key, row.value, message_id=row.message_id)
            event = None if is_repeat else self._queued_event(row)
        if event is not None:
            value = self._codec.encode(event, topic=STATUS)
            self._publish_record(batch, STATUS, str(event.message_id), value, message_id=None)

    def _publish_record(
        self, batch: "_Batch", topic: str, key: str, value: bytes, *, message_id: UUID | None
    ) -> None:
        on_ack = batch.expect(message_id)
        try:
            self._producer.publish(topic, key=key, value=value, on_ack=on_ack)
        except KafkaFault as fault:
            on_ack(fault)

    def _await_acks(self, batch: "_Batch", log_id: str) -> None:
        deadline = time.monotonic() + ACK_SECONDS
        while batch.unacknowledged and time.monotonic() < deadline and not self._stop.is_set():
            if self._producer.flush(0.5) and self._has_topic_changed(log_id):
                break
        if self._stop.is_set() and batch.unacknowledged:
            self._producer.flush(2.0)
        if batch.unacknowledged:
            raise KafkaUnavailableError(f"{batch.unacknowledged} records were not acknowledged")
        for message_id, fault in batch.faults:
            if message_id is not None and _is_record_error(fault):
                self._refused[message_id] = str(fault)
                log.error("relay.record_refused", message_id=str(message_id), problem=str(fault))
        if batch.faults:
            raise _most_permanent([fault for _, fault in batch.faults])

    def _has_topic_changed(self, log_id: str) -> bool:
        """Return whether the topics were replaced; False if the cluster does not respond."""
        try:
            return self._topic_identity.read_log_id() != log_id
        except KafkaUnavailableError:
            return False

    @staticmethod
    def _queued_event(row: QueueRow) -> StatusEvent | None:
        header = header_of(row)
        return None if header is None else queued(header)

    def _failed_event(self, row: QueueRow) -> StatusEvent | None:
        header = header_of(row)
        if header is None:
            return None
        response = ProviderResponse(
            detail=f"Kafka refused the record: {self._refused[row.message_id]}"
        )
        return failed(header, reason=Reason.INVALID_CONTENT, at=self._clock(), response=response)


class _Batch:
    """Counts the acknowledgements of one batch."""

    def __init__(self) -> None:
        self._expected = 0
        self._reported = 0
        self._lock = Lock()  # reports come from the polling thread and from the flushing thread
        self.faults: list[tuple[UUID | None, KafkaFault]] = []

    @property
    def unacknowledged(self) -> int:
        """The number of records without a report."""
        return self._expected - self._reported

    def expect(self, message_id: UUID | None) -> Callable[[KafkaFault | None], None]:
        """Add a record, and return the callback for its acknowledgement or its fault."""
        self._expected += 1

        def report(fault: KafkaFault | None) -> None:
            with self._lock:
                if fault is not None:
                    self.faults.append((message_id, fault))
                self._reported += 1

        return report


def _is_record_error(fault: KafkaFault) -> bool:
    return isinstance(fault, KafkaRefusedError) and str(fault).startswith(_RECORD_ERRORS)


def _most_permanent(faults: Sequence[KafkaFault]) -> KafkaFault:
    """Return the fault to report: a refusal by the cluster rather than a temporary fault."""
    refusals = (fault for fault in faults if isinstance(fault, KafkaRefusedError))
    return next((fault for fault in refusals if not _is_record_error(fault)), faults[0])
