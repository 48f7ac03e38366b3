"""Publishes status events to `comms.status`, and repeats each until the broker has it.

The pipeline publishes from the event loop. The acknowledgements are collected there too
(`PolledProducer`), every few milliseconds while any are missing. The callback of an event runs once
the broker has acknowledged it, on whichever thread polls or flushes the same producer. It must be
fast and thread-safe.
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
OnPublished = Callable[[], None]


class PolledProducer:
    """A producer without a thread of its own: an event loop collects its acknowledgements."""

    def __init__(self, producer: EventProducer, loop: asyncio.AbstractEventLoop) -> None:
        self._producer = producer
        self._loop = loop
        self._is_collecting = False

    def publish(self, topic: str, *, key: str, value: bytes, on_ack: Ack) -> None:
        """Publish as `EventProducer.publish` does, from the loop. It calls `on_ack` by itself."""
        if not self._is_collecting:
            self._is_collecting = True
            self._loop.call_later(COLLECT_SECONDS, self._collect)
        self._producer.publish(topic, key=key, value=value, on_ack=on_ack)

    def _collect(self) -> None:
        self._is_collecting = self._producer.poll() > 0
        if self._is_collecting:
            self._loop.call_later(COLLECT_SECONDS, self._collect)


class StatusPublisher:
    """Publishes status events from one event loop."""

    def __init__(
        self, producer: EventProducer, codec: Codec, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._producer = PolledProducer(producer, loop)
        self._codec = codec
        self._loop = loop

    def publish(self, event: StatusEvent, on_published: OnPublished | None = None) -> None:
        """Publish an event.

        Args:
            on_published: called when the broker has it, however long that takes.
        """
        value = self._codec.encode(event, topic=topics.STATUS)
        self._publish(str(event.message_id), value, on_published)

    def republish(self, message_id: UUID, value: bytes) -> None:
        """Publish an encoded event that was published before and lost by the broker."""
        self._publish(str(message_id), value, None)

    def _publish(self, key: str, value: bytes, on_published: OnPublished | None) -> None:
        def on_ack(fault: KafkaFault | None) -> None:
            if fault is not None:
                self._loop.call_soon_threadsafe(self._retry, key, value, on_published, fault)
            elif on_published is not None:
                on_published()

        try:
            self._producer.publish(topics.STATUS, key=key, value=value, on_ack=on_ack)
        except KafkaUnavailableError as fault:
            self._retry(key, value, on_published, fault)

    def _retry(
        self, key: str, value: bytes, on_published: OnPublished | None, fault: KafkaFault
    ) -> None:
        log.warning("status.not_published", message_id=key, problem=str(fault))
        self._loop.call_later(RETRY_SECONDS, self._publish, key, value, on_published)
