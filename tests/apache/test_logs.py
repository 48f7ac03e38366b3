"""Logs that do not hold any more what was to be read or was acknowledged: retention, a topic made
again, a node that lost its latest records with its power."""

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
PLACE = (TOPIC, 0)


@pytest.fixture
def broker(kafka: ApacheKafka) -> Broker:
    """The node, with that topic empty."""
    made = Broker({"bootstrap.servers": kafka.bootstrap_servers})
    made.apply_topics()
    _make_again(made)
    return made


def test_what_outlived_its_retention_is_passed_over(broker: Broker) -> None:
    group = f"test-{uuid4()}"
    publish(broker, "one", "two", "three", "four")
    consumer = broker.consumer(group, [TOPIC])
    assert read(consumer, until="two")
    consumer.commit({PLACE: 1})
    consumer.close()
    admin = AdminClient(dict(broker.properties))
    for future in admin.delete_records([KafkaTopicPartition(TOPIC, 0, 3)]).values():
        future.result(20)
    consumer = broker.consumer(group, [TOPIC])
    assert read(consumer, until="four") == ["four"]
    assert consumer.resets == 1
    consumer.commit({PLACE: 4})
    consumer.close()


def test_a_topic_deleted_and_made_again_is_read_by_who_reads_it_already(broker: Broker) -> None:
    consumer = broker.consumer(f"test-{uuid4()}", [TOPIC])
    publish(broker, "one", "two")
    assert read(consumer, until="two")
    before = broker.topic_ids([TOPIC])
    _make_again(broker)
    assert broker.topic_ids([TOPIC]) != before
    publish(broker, "three")
    assert read(consumer, until="three") == ["three"]
    consumer.close()


def test_a_node_that_lost_its_latest_records_is_noticed_by_who_wrote_and_who_reads(
    kafka: ApacheKafka, broker: Broker, tmp_path: Path
) -> None:
    """The topic is the same, and so is its id: only the numbers of its records tell."""
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
    """What became of a record."""
    told: list[KafkaFault | None] = []
    producer.publish(TOPIC, key="k", value=value.encode(), on_ack=told.append)
    wait_for(lambda: bool(told), seconds=60, what="reported")
    return told[0]


def publish(broker: Broker, *values: str) -> None:
    producer = broker.producer(idempotent=True)
    assert [outcome(producer, value) for value in values] == [None] * len(values)
    producer.close()


def read(consumer: TopicConsumer, *, until: str) -> list[str]:
    """The values up to that one."""
    found: list[str] = []

    def arrived() -> bool:
        found.extend(_value(record) for record in _poll(consumer))
        return until in found

    wait_for(arrived, seconds=60, what=f"{until} read, but {found}")
    return found


def _poll(consumer: TopicConsumer) -> list[Record]:
    """What is there now; nothing, while the node is away."""
    try:
        return consumer.poll(100, 0.1)
    except KafkaUnavailableError:
        return []


def _value(record: Record) -> str:
    return record.value.decode()


def _make_again(broker: Broker) -> None:
    admin = AdminClient(dict(broker.properties))
    for future in admin.delete_topics([TOPIC]).values():
        future.result(20)
    wait_for(lambda: TOPIC not in broker.topic_names(), what="deleted")
    broker.apply_topics()
    wait_for(lambda: TOPIC in broker.topic_names(), what="made again")
