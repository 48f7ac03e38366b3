"""Kafka: clients made one way, and the one seam where librdkafka's errors become ours.

Every service gets a `Broker` from its settings and asks it for an `EventProducer` or a
`TopicConsumer`. Bytes go in and records come out; no `KafkaException` passes this package.
"""

from comms.platform.kafka.cluster import Broker
from comms.platform.kafka.consuming import Rebalance, Record, TopicConsumer
from comms.platform.kafka.errors import (
    KafkaDataLossError,
    KafkaFault,
    KafkaRefusedError,
    KafkaUnavailableError,
    fault_of,
)
from comms.platform.kafka.producing import Ack, EventProducer, Headers, TopicPartition

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
    "fault_of",
]
