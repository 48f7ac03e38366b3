"""A consumer whose broker forgets, and one that has no room for a while."""

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
def here(engine: EmbeddedBroker) -> Broker:
    found = Broker({"bootstrap.servers": engine.bootstrap_servers})
    found.apply_topics()
    return found


def put(broker: Broker, *values: str) -> None:
    """All with one key, so into one partition."""
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


def test_nothing_is_committed_into_a_log_that_is_another_one(
    engine: EmbeddedBroker, here: Broker
) -> None:
    put(here, "a", "b", "c")
    with consuming(here) as (consumer, until):
        last = until(3)[-1]
        engine.stop(grace=0)
        engine.start()
        here.apply_topics()
        put(here, "d", "e", "f", "g", "h")
        with pytest.raises(KafkaUnavailableError):
            consumer.commit({last.place: last.offset + 1})
        values = [record.value for record in until(8)[3:]]
    assert values == [b"d", b"e", b"f", b"g", b"h"], "from its beginning, not from where it was"


def test_what_stood_by_goes_on_where_it_was(here: Broker) -> None:
    put(here, *(str(n) for n in range(50)))
    with consuming(here) as (consumer, until):
        until(50)
        consumer.stand_by(0.1)
        put(here, *(str(n) for n in range(50, 60)))
        for _ in range(5):
            consumer.stand_by(0.1)
        assert [record.value for record in until(60)] == [str(n).encode() for n in range(60)]


def test_what_stood_by_when_its_partitions_were_lost_reads_again(
    engine: EmbeddedBroker, here: Broker
) -> None:
    put(here, "a", "b")
    with consuming(here) as (consumer, until):
        until(2)
        consumer.stand_by(0.1)
        engine.stop(grace=0)
        engine.start()
        here.apply_topics()
        put(here, "c", "d")

        def is_lost() -> bool:
            with suppress(KafkaUnavailableError):
                consumer.stand_by(0.1)
            return not consumer.assignment

        wait_for(is_lost, seconds=40, what="lost")
        assert [record.value for record in until(4)[2:]] == [b"c", b"d"]


def test_a_group_that_works_is_not_dissolved(here: Broker) -> None:
    put(here, "a")
    with consuming(here) as (consumer, until):
        until(1)
        assert not here.dissolve_if_stuck(consumer.group)
        assert consumer.assignment
