"""Kafka: clients made one way, and the one seam where librdkafka's errors become ours.

Every service gets a `Broker` from its settings and asks it for an `EventProducer` or a
`TopicConsumer`. Bytes go in and records come out; no `KafkaException` passes this package.
"""

from comms.platform.kafka.cluster import Broker
from comms.platform.kafka.consuming import Rebalance, Record, TopicConsumer
from comms.platform.kafka.errors import (
    KafkaFault,
    KafkaForgotError,
    KafkaRefusedError,
    KafkaUnavailableError,
    fault_of,
)
from comms.platform.kafka.producing import Ack, EventProducer, Headers, Place

__all__ = [
    "Ack",
    "Broker",
    "EventProducer",
    "Headers",
    "KafkaFault",
    "KafkaForgotError",
    "KafkaRefusedError",
    "KafkaUnavailableError",
    "Place",
    "Rebalance",
    "Record",
    "TopicConsumer",
    "fault_of",
]
