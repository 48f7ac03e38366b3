"""Kafka: clients made one way, and the one seam where librdkafka's errors become ours.

Every service gets a `Broker` from its settings and asks it for an `EventProducer` or a
`TopicConsumer`. Bytes go in and records come out; no `KafkaException` passes this package.
"""

from comms.kafka.cluster import Broker
from comms.kafka.consuming import Place, Rebalance, Record, TopicConsumer
from comms.kafka.faults import KafkaFault, KafkaRefusedError, KafkaUnavailableError, fault_of
from comms.kafka.producing import Ack, EventProducer, Headers

__all__ = [
    "Ack",
    "Broker",
    "EventProducer",
    "Headers",
    "KafkaFault",
    "KafkaRefusedError",
    "KafkaUnavailableError",
    "Place",
    "Rebalance",
    "Record",
    "TopicConsumer",
    "fault_of",
]
