"""Logs that lost records: by retention, by a recreated topic, by a node's power failure."""

import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient

from comms.platform.kafka import (
    Broker,
    KafkaDataLossError,
    KafkaFault,
    KafkaUnavailableError,
    Record,
    TopicConsumer,
)
from comms.platform.kafka.producing import EventProducer
from tests.apache.server import ApacheKafka
from tests.waiting import wait_for

pytestmark = pytest.mark.apache

TOPIC = "comms.dead-letters"  # of one partition
PARTITION = (TOPIC, 0)


@pytest.fixture
def broker(kafka: ApacheKafka) -> Broker:
    """The node, with `TOPIC` empty."""
    broker = Broker({"bootstrap.servers": kafka.bootstrap_servers})
    broker.apply_topics()
    _recreate(broker)
    return broker


def test_a_consumer_skips_records_that_retention_deleted(broker: Broker) -> None:
    group = f"test-{uuid4()}"
    publish(broker, "one", "two", "three", "four")
    consumer = broker.consumer(group, [TOPIC])
    assert read(consumer, until="two")
    consumer.commit({PARTITION: 1})
    consumer.close()
    admin = AdminClient(dict(broker.properties))
    for future in admin.delete_records([KafkaTopicPartition(TOPIC, 0, 3)]).values():
        future.result(20)
    consumer = broker.consumer(group, [TOPIC])
    assert read(consumer, until="four") == ["four"]
    assert consumer.resets == 1
    consumer.commit({PARTITION: 4})
    consumer.close()


def test_a_running_consumer_reads_a_recreated_topic(broker: Broker) -> None:
    consumer = broker.consumer(f"test-{uuid4()}", [TOPIC])
    publish(broker, "one", "two")
    assert read(consumer, until="two")
    before = broker.read_topic_ids([TOPIC])
    _recreate(broker)
    assert broker.read_topic_ids([TOPIC]) != before
    publish(broker, "three")
    assert read(consumer, until="three") == ["three"]
    consumer.close()


def test_producer_and_consumer_notice_that_a_node_lost_its_latest_records(
    kafka: ApacheKafka, broker: Broker, tmp_path: Path
) -> None:
    """The topic and its id are the same. Only the offsets of its records reveal the loss."""
    producer = broker.producer(idempotent=True)
    consumer = broker.consumer(f"test-{uuid4()}", [TOPIC])
    assert outcome(producer, "one") is None
    assert read(consumer, until="one")
    log, earlier = kafka.logs / f"{TOPIC}-0", tmp_path / "earlier"
    kafka.stop()
    shutil.copytree(log, earlier)
    kafka.start()
    assert [outcome(producer, value) for value in ("two", "three", "four")] == [None] * 3
    assert read(consumer, until="four")
    kafka.kill()
    shutil.rmtree(log)
    shutil.copytree(earlier, log)
    kafka.start()
    assert isinstance(outcome(producer, "five"), KafkaDataLossError)
    producer.renew()
    assert outcome(producer, "six") is None
    assert read(consumer, until="six") == ["one", "six"]
    consumer.close()
    producer.close()


def outcome(producer: EventProducer, value: str) -> KafkaFault | None:
    """Publish a record and return its error, or None if it was acknowledged."""
    reports: list[KafkaFault | None] = []
    producer.publish(TOPIC, key="k", value=value.encode(), on_ack=reports.append)
    wait_for(lambda: bool(reports), seconds=60, what="the delivery report")
    return reports[0]


def publish(broker: Broker, *values: str) -> None:
    producer = broker.producer(idempotent=True)
    assert [outcome(producer, value) for value in values] == [None] * len(values)
    producer.close()


def read(consumer: TopicConsumer, *, until: str) -> list[str]:
    """Read until that value arrives, and return every value up to it."""
    values: list[str] = []

    def arrived() -> bool:
        values.extend(_value(record) for record in _poll(consumer))
        return until in values

    wait_for(arrived, seconds=60, what=f"the record {until}")
    return values


def _poll(consumer: TopicConsumer) -> list[Record]:
    """Poll once. While the node is down there is nothing to read."""
    try:
        return consumer.poll(100, 0.1)
    except KafkaUnavailableError:
        return []


def _value(record: Record) -> str:
    return record.value.decode()


def _recreate(broker: Broker) -> None:
    admin = AdminClient(dict(broker.properties))
    for future in admin.delete_topics([TOPIC]).values():
        future.result(20)
    wait_for(lambda: TOPIC not in broker.list_topics(), what="the topic to be deleted")
    broker.apply_topics()
    wait_for(lambda: TOPIC in broker.list_topics(), what="the topic to be created")
