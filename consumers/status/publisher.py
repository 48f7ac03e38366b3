"""Says on `comms.status` what happened, and keeps saying it until the broker has it.

The dispatcher announces from the event loop, where the acknowledgements are collected too
(`PolledProducer`), every few milliseconds while any are missing. `done` is called once the broker
acknowledged; who else serves or flushes the same producer may be the one that calls it: it must be
quick and thread-safe.
"""

import asyncio
from collections.abc import Callable
from uuid import UUID

import structlog

from comms.platform.kafka import Ack, EventProducer, KafkaFault, KafkaUnavailableError
from schemas import topics
from schemas.codec import Codec
from schemas.events import StatusEvent

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
COLLECT_SECONDS = 0.005
Done = Callable[[], None]


class PolledProducer:
    """A producer without a thread of its own, whose acknowledgements an event loop collects."""

    def __init__(self, producer: EventProducer, loop: asyncio.AbstractEventLoop) -> None:
        self._producer, self._loop = producer, loop
        self._collecting = False

    def publish(self, topic: str, *, key: str, value: bytes, on_ack: Ack) -> None:
        """As `EventProducer.publish`, from the loop; `on_ack` follows by itself."""
        if not self._collecting:
            self._collecting = True
            self._loop.call_later(COLLECT_SECONDS, self._collect)
        self._producer.publish(topic, key=key, value=value, on_ack=on_ack)

    def _collect(self) -> None:
        self._collecting = self._producer.serve() > 0
        if self._collecting:
            self._loop.call_later(COLLECT_SECONDS, self._collect)


class StatusPublisher:
    """Publishes status events from one event loop."""

    def __init__(
        self, producer: EventProducer, codec: Codec, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._producer, self._codec, self._loop = PolledProducer(producer, loop), codec, loop

    def announce(self, event: StatusEvent, done: Done | None = None) -> None:
        """Publish `event`; `done` follows when the broker has it, however long that takes."""
        value = self._codec.encode(event, topic=topics.STATUS)
        self._publish(str(event.message_id), value, done)

    def repeat(self, message_id: UUID, value: bytes) -> None:
        """Publish an encoded event that was published before, and lost."""
        self._publish(str(message_id), value, None)

    def _publish(self, key: str, value: bytes, done: Done | None) -> None:
        def on_ack(fault: KafkaFault | None) -> None:
            if fault is not None:
                self._loop.call_soon_threadsafe(self._again, key, value, done, fault)
            elif done is not None:
                done()

        try:
            self._producer.publish(topics.STATUS, key=key, value=value, on_ack=on_ack)
        except KafkaUnavailableError as fault:
            self._again(key, value, done, fault)

    def _again(self, key: str, value: bytes, done: Done | None, fault: KafkaFault) -> None:
        log.warning("status.not_published", message_id=key, problem=str(fault))
        self._loop.call_later(RETRY_SECONDS, self._publish, key, value, done)
