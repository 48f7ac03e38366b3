"""Read a whole topic once, without a consumer group and without committing anything.

Commands that look into a topic use this, through `Broker.records`; services use `TopicConsumer`.
The end of a partition is where the broker reports it (`_PARTITION_EOF`). The latest offset that the
embedded broker reports is not reliable.
"""

from collections.abc import Iterator, Mapping
from time import monotonic

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

from comms.platform.kafka.errors import CLIENT_LOG, KafkaUnavailableError, to_fault
from comms.platform.kafka.producing import TopicPartition
from comms.platform.kafka.records import Record, to_record
from schemas.topics import LARGEST_RECORD

SILENCE_SECONDS = 15.0
BATCH = 200


def read_all(properties: Mapping[str, str], topic: str, partitions: int) -> Iterator[Record]:
    """Yield every record of the topic, in order within each partition.

    Raises:
        KafkaUnavailableError: the broker stopped answering.
        KafkaRefusedError: this client may not read the topic.
    """
    consumer = Consumer(
        {
            "fetch.wait.max.ms": "20",
            "fetch.message.max.bytes": str(LARGEST_RECORD),
            "allow.auto.create.topics": "false",
            **properties,
            "group.id": "comms-reader",  # the client requires it; the group is never joined
            "enable.auto.commit": "false",
            "enable.partition.eof": "true",
            "auto.offset.reset": "earliest",  # retention may overtake a slow reader
        },
        logger=CLIENT_LOG,
    )
    try:
        unread = {(topic, number) for number in range(partitions)}
        consumer.assign([KafkaTopicPartition(*partition, OFFSET_BEGINNING) for partition in unread])
        answered_at = monotonic()
        while unread:
            messages = consumer.consume(BATCH, 0.1)
            if messages:
                answered_at = monotonic()
            elif monotonic() - answered_at > SILENCE_SECONDS:
                raise KafkaUnavailableError(f"no broker answered for {SILENCE_SECONDS:g} s")
            yield from _records(messages, unread)
    except KafkaException as error:
        raise to_fault(error.args[0]) from error
    finally:
        consumer.close()


def _records(messages: list[Message], unread: set[TopicPartition]) -> Iterator[Record]:
    """Yield the records, and remove the partitions that end from `unread`."""
    for message in messages:
        error = message.error()
        if error is None:
            yield to_record(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            unread.discard((message.topic() or "", message.partition() or 0))
        else:
            raise to_fault(error)
