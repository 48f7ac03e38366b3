"""A consumer whose broker loses its records, and a consumer that is paused for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from comms.platform.kafka import Broker, KafkaUnavailableError, Record, TopicConsumer
from comms.stack.broker import EmbeddedBroker
from tests.waiting import wait_for

TOPIC = "comms.sms"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    engine = EmbeddedBroker(tmp_path)
    engine.start()
    yield engine
    engine.stop(grace=0)


@pytest.fixture
def broker(engine: EmbeddedBroker) -> Broker:
    broker = Broker({"bootstrap.servers": engine.bootstrap_servers})
    broker.apply_topics()
    return broker


def publish(broker: Broker, *values: str) -> None:
    """Publish values with one key, so that they are in one partition."""
    producer = broker.producer()
    for value in values:
        producer.publish(TOPIC, key="one", value=value.encode())
    assert producer.flush(10) == 0
    producer.close()


@contextmanager
def consuming(broker: Broker) -> Iterator[tuple[TopicConsumer, Callable[[int], list[Record]]]]:
    consumer, read = broker.consumer(f"test-{uuid4()}", [TOPIC]), list[Record]()

    def until(count: int) -> list[Record]:
        def enough() -> bool:
            try:
                read.extend(consumer.poll(100, 0.1))
            except KafkaUnavailableError:
                return False
            return len(read) >= count

        wait_for(enough, seconds=40, what=f"{count} records")
        return read

    try:
        yield consumer, until
    finally:
        consumer.close()


def test_nothing_is_committed_to_a_topic_that_was_created_again(
    engine: EmbeddedBroker, broker: Broker
) -> None:
    publish(broker, "a", "b", "c")
    with consuming(broker) as (consumer, until):
        last = until(3)[-1]
        engine.stop(grace=0)
        engine.start()
        broker.apply_topics()
        publish(broker, "d", "e", "f", "g", "h")
        with pytest.raises(KafkaUnavailableError):
            consumer.commit({last.topic_partition: last.offset + 1})
        values = [record.value for record in until(8)[3:]]
    assert values == [b"d", b"e", b"f", b"g", b"h"], "the new log is read from its beginning"


def test_a_paused_consumer_continues_where_it_stopped(broker: Broker) -> None:
    publish(broker, *(str(n) for n in range(50)))
    with consuming(broker) as (consumer, until):
        until(50)
        consumer.poll_paused(0.1)
        publish(broker, *(str(n) for n in range(50, 60)))
        for _ in range(5):
            consumer.poll_paused(0.1)
        assert [record.value for record in until(60)] == [str(n).encode() for n in range(60)]


def test_a_consumer_that_lost_its_partitions_while_paused_reads_again(
    engine: EmbeddedBroker, broker: Broker
) -> None:
    publish(broker, "a", "b")
    with consuming(broker) as (consumer, until):
        until(2)
        consumer.poll_paused(0.1)
        engine.stop(grace=0)
        engine.start()
        broker.apply_topics()
        publish(broker, "c", "d")

        def is_lost() -> bool:
            with suppress(KafkaUnavailableError):
                consumer.poll_paused(0.1)
            return not consumer.assignment

        wait_for(is_lost, seconds=40, what="lost")
        assert [record.value for record in until(4)[2:]] == [b"c", b"d"]


def test_a_group_that_works_is_not_deleted(broker: Broker) -> None:
    publish(broker, "a")
    with consuming(broker) as (consumer, until):
        until(1)
        assert not broker.delete_if_stuck(consumer.group)
        assert consumer.assignment
