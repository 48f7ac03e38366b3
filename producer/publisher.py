"""Publishing a batch of the queue: every record acknowledged, or none counted.

The relay hands in rows; they become records of the channel's topic, each with the event that says
`queued`. One record that Kafka will never take (too large for the cluster) must not hold up the
rest of its shard: its message is announced as failed instead.
"""

import time
from collections.abc import Callable, Sequence
from threading import Event, Lock
from uuid import UUID

import structlog

from comms.platform.clock import Clock, utc_now
from comms.platform.kafka import EventProducer, KafkaFault, KafkaRefusedError, KafkaUnavailableError
from producer.queue import Row, header_of
from producer.topic_identity import TopicIdentity
from schemas.codec import Codec
from schemas.events import ProviderResponse, StatusEvent, failed, queued
from schemas.topics import STATUS
from schemas.vocabulary import Reason

log = structlog.get_logger(__name__)

ACK_SECONDS = 30.0
# What is wrong with the one record, and not with the cluster or our rights on it.
_ABOUT_THE_RECORD = ("MSG_SIZE_TOO_LARGE", "INVALID_MSG", "INVALID_RECORD")


class Publisher:
    """Turns rows into acknowledged records. One thread alone may call it.

    Args:
        stop: set when the process ends; a wait for acknowledgements is given up then.
        logs: asked, while acknowledgements are missing, whether they can still come.
    """

    def __init__(
        self,
        producer: EventProducer,
        codec: Codec,
        stop: Event,
        logs: TopicIdentity,
        clock: Clock = utc_now,
    ) -> None:
        self._producer, self._codec = producer, codec
        self._stop, self._logs, self._clock = stop, logs, clock
        self._refused: dict[UUID, str] = {}

    def publish(self, rows: Sequence[Row], *, log: str, again: bool = False) -> None:
        """Publish `rows` in order and wait until all are acknowledged.

        Args:
            log: the identity of the logs they go to.
            again: they were published before, and so was their `queued` event.

        Raises:
            KafkaUnavailableError: something was not acknowledged; publish all of it again.
            KafkaRefusedError: the cluster does not let us publish.
        """
        batch = _Batch()
        for row in rows:
            self._hand_over(row, batch, again=again)
        try:
            self._await(batch, log)
        except KafkaFault:
            self.renew()  # a rest of this batch must not come after its repetition
            raise
        for row in rows:
            self._refused.pop(row.message_id, None)

    def renew(self) -> None:
        """Begin with a producer that the cluster has not seen."""
        self._producer.renew()

    def _hand_over(self, row: Row, batch: "_Batch", *, again: bool) -> None:
        if row.message_id in self._refused and not row.is_event:
            event = self._refusal(row)
        else:
            self._send(batch, row.topic, row.key, row.value, about=row.message_id)
            event = None if again else self._queued(row)
        if event is not None:
            value = self._codec.encode(event, topic=STATUS)
            self._send(batch, STATUS, str(event.message_id), value, about=None)

    def _send(
        self, batch: "_Batch", topic: str, key: str, value: bytes, *, about: UUID | None
    ) -> None:
        on_ack = batch.expect(about)
        try:
            self._producer.publish(topic, key=key, value=value, on_ack=on_ack)
        except KafkaFault as fault:
            on_ack(fault)

    def _await(self, batch: "_Batch", to_log: str) -> None:
        deadline = time.monotonic() + ACK_SECONDS
        while batch.open and time.monotonic() < deadline and not self._stop.is_set():
            if self._producer.flush(0.5) and self._is_lost(to_log):
                break
        if self._stop.is_set() and batch.open:
            self._producer.flush(2.0)
        if batch.open:
            raise KafkaUnavailableError(f"{batch.open} records were not acknowledged")
        for message_id, fault in batch.faults:
            if message_id is not None and _is_about_the_record(fault):
                self._refused[message_id] = str(fault)
                log.error("relay.record_refused", message_id=str(message_id), problem=str(fault))
        if batch.faults:
            raise _most_lasting([fault for _, fault in batch.faults])

    def _is_lost(self, to_log: str) -> bool:
        """Whether the logs are others by now; a cluster that does not answer may only be slow."""
        try:
            return self._logs.identity() != to_log
        except KafkaUnavailableError:
            return False

    @staticmethod
    def _queued(row: Row) -> StatusEvent | None:
        header = header_of(row)
        return None if header is None else queued(header)

    def _refusal(self, row: Row) -> StatusEvent | None:
        header = header_of(row)
        if header is None:
            return None
        response = ProviderResponse(
            detail=f"Kafka refused the record: {self._refused[row.message_id]}"
        )
        return failed(header, reason=Reason.INVALID_CONTENT, at=self._clock(), response=response)


class _Batch:
    """Acknowledgements of one batch, as they arrive on the producer's thread."""

    def __init__(self) -> None:
        self._expected = 0
        self._reported = 0
        self._counting = Lock()  # reports come from the poller's thread and from whoever flushes
        self.faults: list[tuple[UUID | None, KafkaFault]] = []

    @property
    def open(self) -> int:
        """Records nobody has reported on."""
        return self._expected - self._reported

    def expect(self, message_id: UUID | None) -> Callable[[KafkaFault | None], None]:
        """One more record; returns what is to be called with its fate."""
        self._expected += 1

        def report(fault: KafkaFault | None) -> None:
            with self._counting:
                if fault is not None:
                    self.faults.append((message_id, fault))
                self._reported += 1

        return report


def _is_about_the_record(fault: KafkaFault) -> bool:
    return isinstance(fault, KafkaRefusedError) and str(fault).startswith(_ABOUT_THE_RECORD)


def _most_lasting(faults: Sequence[KafkaFault]) -> KafkaFault:
    """The one to tell people of: a refusal of the cluster's before what passes by itself."""
    refusals = (f for f in faults if isinstance(f, KafkaRefusedError))
    return next((f for f in refusals if not _is_about_the_record(f)), faults[0])
