"""Publishing: one producer a process, whose acknowledgements are reported one by one.

They are reported on a thread of the producer's own or, where an event loop has its hands full, by
whoever calls `serve`: two threads that take the interpreter from each other for every
acknowledgement cost more than the work itself.
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
    fault_of,
)
from schemas.topics import LARGEST_RECORD

log = structlog.get_logger(__name__)

Headers = Mapping[str, bytes]
TopicPartition = tuple[str, int]  # (topic, partition)
Ack = Callable[[KafkaFault | None], None]


class EventProducer:
    """Publishes records and reports each acknowledgement; safe to use from any thread.

    Acknowledgements arrive on a thread of its own, unless it is not `threaded`: then they arrive
    where `serve` or `flush` is called. A fatal error of the client replaces it; what was in flight
    is reported as unavailable, and its owner publishes it again. An idempotent producer is replaced
    by its owner alone, with `renew`: a record must not overtake one that will be published again.
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
            # An idempotent record may wait until its owner renews: none passes one that gave up.
            "delivery.timeout.ms": "600000" if idempotent else "30000",
            "topic.metadata.refresh.interval.ms": "10000",
            "reconnect.backoff.max.ms": "1000",
            **properties,
        }
        self._idempotent = idempotent
        self._lock = threading.Lock()
        self._broken = False
        self._closing = threading.Event()
        self._client = self._new_client()
        self._poller = threading.Thread(target=self._poll, name="kafka-acks", daemon=True)
        if threaded:
            self._poller.start()

    def publish(
        self,
        topic: str,
        *,
        key: str | bytes | None,
        value: bytes,
        on_ack: Ack | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Hand a record over; `on_ack(None)` follows once every in-sync replica has it.

        Raises:
            KafkaForgotError: the broker has forgotten this idempotent producer: `renew` it.
            KafkaUnavailableError: the client's buffer is full.
            KafkaRefusedError: the record is not acceptable.
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
            raise fault_of(error.args[0]) from error

    def publish_and_wait(
        self, topic: str, *, key: bytes | None, value: bytes, headers: Headers, seconds: float
    ) -> None:
        """Publish one record, and return when the broker has it.

        Raises:
            KafkaUnavailableError: it has not, after `seconds` or because it cannot now.
            KafkaRefusedError: the record is not acceptable.
        """
        reported = threading.Event()
        faults: list[KafkaFault | None] = []

        def on_ack(fault: KafkaFault | None) -> None:
            faults.append(fault)
            reported.set()

        self.publish(topic, key=key, value=value, headers=headers, on_ack=on_ack)
        deadline = monotonic() + seconds
        while not reported.is_set() and monotonic() < deadline:
            self.serve(0.1)
        if not faults:
            raise KafkaUnavailableError("a record was not acknowledged in time")
        if faults[0] is not None:
            raise faults[0]

    def serve(self, seconds: float = 0.0) -> int:
        """Report what is acknowledged; waits up to `seconds` for the first.

        Returns:
            The number of records handed over and not yet reported.
        """
        try:
            self._client.poll(seconds)
        except KafkaException as error:
            self._on_error(error.args[0])
        return len(self._client)

    def flush(self, seconds: float) -> int:
        """Wait until everything handed over is reported; the number still open after `seconds`."""
        try:
            return self._client.flush(seconds)
        except KafkaException as error:
            self._on_error(error.args[0])
            return len(self._client)

    def renew(self) -> None:
        """Begin anew: what is open is reported as unavailable and will not be sent."""
        with self._lock:
            self._replace()

    def close(self, seconds: float = 10.0) -> None:
        """Flush and release the client."""
        self.flush(seconds)
        self._closing.set()
        if self._poller.is_alive():
            self._poller.join(2.0)

    def _new_client(self) -> Producer:
        return Producer({**self._properties, "error_cb": self._on_error}, logger=CLIENT_LOG)

    def _healthy_client(self) -> Producer:
        if not self._broken:
            return self._client
        if self._idempotent:
            raise KafkaDataLossError("the broker has forgotten this producer")
        with self._lock:
            if self._broken:
                self._replace()
            return self._client

    def _replace(self) -> None:
        old, self._client, self._broken = self._client, self._new_client(), False
        old.purge()
        old.poll(0.1)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = True
            log.error("kafka.producer_replaced", problem=error.str())

    def _reporter(self, on_ack: Ack | None) -> Callable[[KafkaError | None, Message], None]:
        client = self._client

        def report(error: KafkaError | None, _: Message) -> None:
            fault = None if error is None else fault_of(error)
            # A client that was replaced proves nothing about the present one.
            if client is self._client and isinstance(fault, KafkaDataLossError):
                self._broken = True
            if on_ack is not None:
                on_ack(fault)

        return report

    def _poll(self) -> None:
        while not self._closing.is_set():
            self.serve(0.1)
            if self._broken:  # until somebody publishes again, polling a dead client says nothing
                self._closing.wait(0.1)
