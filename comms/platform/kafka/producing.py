"""The producer: publishes records and reports the acknowledgement of each one.

A process has one `EventProducer`, made by `Broker.producer`. It reports acknowledgements on a
thread of its own, or to the caller of `poll`. A busy event loop uses `poll`, because two threads
that exchange the interpreter lock for every acknowledgement cost more than the work itself.
"""

import threading
from collections.abc import Callable, Mapping
from time import monotonic

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from comms.platform.kafka.errors import (
    CLIENT_LOG,
    KafkaDataLossError,
    KafkaFault,
    KafkaUnavailableError,
    to_fault,
)
from schemas.topics import LARGEST_RECORD

log = structlog.get_logger(__name__)

Headers = Mapping[str, bytes]
TopicPartition = tuple[str, int]  # (topic, partition)
Ack = Callable[[KafkaFault | None], None]  # None: every in-sync replica has the record


class EventProducer:
    """Publishes records and reports each acknowledgement; safe to use from any thread.

    Acknowledgements are reported on a thread of the producer if it is `threaded`, otherwise inside
    `poll` and `flush`. After a fatal error the producer replaces its librdkafka client. Records in
    flight are then reported as unavailable, and the owner publishes them again. An idempotent
    producer is replaced only by its owner, with `renew`, because a record must not overtake another
    one that will be published again.
    """

    def __init__(
        self, properties: Mapping[str, str], *, idempotent: bool = False, threaded: bool = True
    ) -> None:
        self._properties = {
            "acks": "all",
            "enable.idempotence": str(idempotent).lower(),
            "linger.ms": "2",
            "compression.type": "lz4",
            "message.max.bytes": str(LARGEST_RECORD),
            "queue.buffering.max.messages": "500000",
            # An idempotent record waits until the owner renews the producer. If it timed out
            # earlier, a later record could overtake it.
            "delivery.timeout.ms": "600000" if idempotent else "30000",
            "topic.metadata.refresh.interval.ms": "10000",
            "reconnect.backoff.max.ms": "1000",
            **properties,
        }
        self._idempotent = idempotent
        self._lock = threading.Lock()
        self._is_broken = False
        self._is_closing = threading.Event()
        self._client = self._new_client()
        self._poll_thread = threading.Thread(target=self._run, name="kafka-acks", daemon=True)
        if threaded:
            self._poll_thread.start()

    def publish(
        self,
        topic: str,
        *,
        key: str | bytes | None,
        value: bytes,
        on_ack: Ack | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Queue a record; `on_ack(None)` is called when every in-sync replica has it.

        Raises:
            KafkaDataLossError: the broker does not know this idempotent producer: `renew` it.
            KafkaUnavailableError: the buffer of the client is full.
            KafkaRefusedError: the record cannot be accepted.
        """
        client = self._healthy_client()
        try:
            client.produce(
                topic,
                key=key.encode() if isinstance(key, str) else key,
                value=value,
                headers=dict(headers) if headers else None,
                on_delivery=self._reporter(on_ack),
            )
        except BufferError as error:
            raise KafkaUnavailableError("the producer's buffer is full") from error
        except KafkaException as error:
            raise to_fault(error.args[0]) from error

    def publish_and_wait(
        self, topic: str, *, key: bytes | None, value: bytes, headers: Headers, seconds: float
    ) -> None:
        """Publish one record, and return when the broker has acknowledged it.

        Raises:
            KafkaUnavailableError: it was not acknowledged within `seconds`, or cannot be now.
            KafkaRefusedError: the record cannot be accepted.
        """
        is_reported = threading.Event()
        faults: list[KafkaFault | None] = []

        def on_ack(fault: KafkaFault | None) -> None:
            faults.append(fault)
            is_reported.set()

        self.publish(topic, key=key, value=value, headers=headers, on_ack=on_ack)
        deadline = monotonic() + seconds
        while not is_reported.is_set() and monotonic() < deadline:
            self.poll(0.1)
        if not faults:
            raise KafkaUnavailableError("a record was not acknowledged in time")
        if faults[0] is not None:
            raise faults[0]

    def poll(self, seconds: float = 0.0) -> int:
        """Report acknowledgements; wait up to `seconds` for the first one.

        Returns:
            The number of records that are queued or in flight.
        """
        try:
            self._client.poll(seconds)
        except KafkaException as error:
            self._on_error(error.args[0])
        return len(self._client)

    def flush(self, seconds: float) -> int:
        """Wait up to `seconds` until every record is reported.

        Returns:
            The number of records that are still queued or in flight.
        """
        try:
            return self._client.flush(seconds)
        except KafkaException as error:
            self._on_error(error.args[0])
            return len(self._client)

    def renew(self) -> None:
        """Replace the client. Records in flight are reported as unavailable and not sent."""
        with self._lock:
            self._replace_client()

    def close(self, seconds: float = 10.0) -> None:
        """Flush, and stop the thread of the producer."""
        self.flush(seconds)
        self._is_closing.set()
        if self._poll_thread.is_alive():
            self._poll_thread.join(2.0)

    def _new_client(self) -> Producer:
        return Producer({**self._properties, "error_cb": self._on_error}, logger=CLIENT_LOG)

    def _healthy_client(self) -> Producer:
        if not self._is_broken:
            return self._client
        if self._idempotent:
            raise KafkaDataLossError("the broker does not know this producer any more")
        with self._lock:
            if self._is_broken:
                self._replace_client()
            return self._client

    def _replace_client(self) -> None:
        old_client = self._client
        self._client = self._new_client()
        self._is_broken = False
        old_client.purge()
        old_client.poll(0.1)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._is_broken = True
            log.error("kafka.producer_replaced", problem=error.str())

    def _reporter(self, on_ack: Ack | None) -> Callable[[KafkaError | None, Message], None]:
        client = self._client

        def report(error: KafkaError | None, _: Message) -> None:
            fault = None if error is None else to_fault(error)
            # An error of a client that was replaced says nothing about the present client.
            if client is self._client and isinstance(fault, KafkaDataLossError):
                self._is_broken = True
            if on_ack is not None:
                on_ack(fault)

        return report

    def _run(self) -> None:
        while not self._is_closing.is_set():
            self.poll(0.1)
            if self._is_broken:  # a dead client reports nothing and does not wait
                self._is_closing.wait(0.1)
