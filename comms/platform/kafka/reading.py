"""Reading a topic from one end to the other, without a group and without leaving a trace.

For commands that look at what stands in a topic; services read with `TopicConsumer`. The end is
where the broker says that there is no more: its latest offsets alone are not to be relied on.
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

from comms.platform.kafka.consuming import Record, record_of
from comms.platform.kafka.errors import CLIENT_LOG, KafkaUnavailableError, fault_of
from comms.platform.kafka.producing import TopicPartition
from schemas.topics import LARGEST_RECORD

SILENCE_SECONDS = 15.0
BATCH = 200


def read_to_the_end(properties: Mapping[str, str], topic: str, partitions: int) -> Iterator[Record]:
    """Every record of the topic, each partition in its order.

    Raises:
        KafkaUnavailableError: the broker stopped answering.
        KafkaRefusedError: the topic may not be read.
    """
    consumer = Consumer(
        {
            "fetch.wait.max.ms": "20",
            "fetch.message.max.bytes": str(LARGEST_RECORD),
            "allow.auto.create.topics": "false",
            **properties,
            "group.id": "comms-reader",  # required by the client; the group is never joined
            "enable.auto.commit": "false",
            "enable.partition.eof": "true",
            "auto.offset.reset": "earliest",  # retention may overtake a slow reader
        },
        logger=CLIENT_LOG,
    )
    try:
        open_places = {(topic, number) for number in range(partitions)}
        consumer.assign([KafkaTopicPartition(*place, OFFSET_BEGINNING) for place in open_places])
        heard = monotonic()
        while open_places:
            messages = consumer.consume(BATCH, 0.1)
            if messages:
                heard = monotonic()
            elif monotonic() - heard > SILENCE_SECONDS:
                raise KafkaUnavailableError(f"no broker answered for {SILENCE_SECONDS:g} s")
            yield from _records(messages, open_places)
    except KafkaException as error:
        raise fault_of(error.args[0]) from error
    finally:
        consumer.close()


def _records(messages: list[Message], open_places: set[TopicPartition]) -> Iterator[Record]:
    for message in messages:
        error = message.error()
        if error is None:
            yield record_of(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            open_places.discard((message.topic() or "", message.partition() or 0))
        else:
            raise fault_of(error)
