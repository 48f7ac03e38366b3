"""A record that was read from a topic, made of librdkafka's message.

`TopicConsumer` and `read_all` return these records, and every reader of a topic works on them.
"""

from dataclasses import dataclass, field
from typing import cast

from confluent_kafka import Message

from comms.platform.kafka.producing import Headers, TopicPartition


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic; `timestamp` is in milliseconds since the epoch, 0 if unknown."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: int
    headers: Headers = field(default_factory=dict)

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition from which the record was read."""
        return self.topic, self.partition


def to_record(message: Message) -> Record:
    """Return the record of a message that librdkafka read without an error."""
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
