"""Kafka clients, made in one way. This package alone handles librdkafka's errors.

Every service makes a `Broker` of its settings and gets its `EventProducer` and `TopicConsumer` from
it. Callers publish bytes and read `Record`s. No `KafkaException` leaves this package.
"""

from comms.platform.kafka.cluster import Broker
from comms.platform.kafka.consuming import Rebalance, TopicConsumer
from comms.platform.kafka.errors import (
    KafkaDataLossError,
    KafkaFault,
    KafkaRefusedError,
    KafkaUnavailableError,
)
from comms.platform.kafka.producing import Ack, EventProducer, Headers, TopicPartition
from comms.platform.kafka.records import Record

__all__ = [
    "Ack",
    "Broker",
    "EventProducer",
    "Headers",
    "KafkaDataLossError",
    "KafkaFault",
    "KafkaRefusedError",
    "KafkaUnavailableError",
    "Rebalance",
    "Record",
    "TopicConsumer",
    "TopicPartition",
]
