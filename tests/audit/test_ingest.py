"""Ingest on a real broker and a real database: exactly once, through restarts and lost logs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from audit.ingest import GROUP, Ingest
from comms.platform.kafka import Broker, Record
from schemas import events
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.topics import DEAD_LETTERS, STATUS
from tests.audit import samples
from tests.brokers import Engine
from tests.waiting import wait_for

CODEC = Codec()


@contextmanager
def ingesting(broker: Broker, database_url: str) -> Iterator[Ingest]:
    """The service on a thread, stopped at the end."""
    quick_to_expire = Broker({**broker.properties, "session.timeout.ms": "3000"})
    ingest = Ingest(broker=quick_to_expire, database_url=database_url, codec=CODEC)
    stop = threading.Event()
    thread = threading.Thread(target=ingest.run, args=(stop,))
    thread.start()
    try:
        yield ingest
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def publish(broker: Broker, published: list[StatusEvent]) -> None:
    publish_bytes(broker, [(str(e.message_id), CODEC.encode(e, topic=STATUS)) for e in published])


def publish_bytes(broker: Broker, values: list[tuple[str, bytes]]) -> None:
    producer = broker.producer()
    for key, value in values:
        producer.publish(STATUS, key=key, value=value)
    assert producer.flush(20) == 0
    producer.close()


eventually = partial(wait_for, seconds=40)


def count(database_url: str, query: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


def recorded(database_url: str) -> int:
    return count(database_url, "SELECT count(*) FROM audit.history")


def recorded_messages(database_url: str) -> set[UUID]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT message_id FROM audit.history").fetchall()
    return {row[0] for row in rows}


def includes(database_url: str, expected: set[UUID]) -> bool:
    return expected <= recorded_messages(database_url)


def dead_letters(broker: Broker) -> list[Record]:
    records: list[Record] = []
    consumer = broker.consumer("test-dead-letters", [DEAD_LETTERS])

    def arrived() -> bool:
        records.extend(consumer.poll(10, 0.2))
        return bool(records)

    eventually(arrived)
    consumer.close()
    return records


def test_events_are_recorded_once_through_restarts_and_repetitions(
    broker: Broker, database_url: str
) -> None:
    messages = [samples.sms(to=f"+1202555{n:04}") for n in range(50)]
    published = [event for message in messages for event in samples.delivered_life(message)]
    publish(broker, published[:120])
    with ingesting(broker, database_url) as ingest:
        eventually(lambda: recorded(database_url) == 120)
        eventually(lambda: ingest.problems() == [])
    publish(broker, published[100:])
    with ingesting(broker, database_url):
        eventually(lambda: recorded(database_url) == 200)
    assert count(database_url, "SELECT sum(count) FROM audit.rollup") == 50
    assert count(database_url, "SELECT sum(next_offset) FROM audit.consumer_offset") == 220


def test_a_record_that_cannot_be_decoded_becomes_a_dead_letter_and_reading_goes_on(
    broker: Broker, database_url: str
) -> None:
    before = samples.sms()
    publish_bytes(broker, [("k", b"not an event")])
    publish(broker, [events.queued(before)])
    with ingesting(broker, database_url):
        eventually(lambda: before.id in recorded_messages(database_url))
    assert b"not an event" in [record.value for record in dead_letters(broker)]


def test_without_a_broker_the_service_reports_a_problem(
    database_url: str, unused_tcp_port: int
) -> None:
    nowhere = Broker({"bootstrap.servers": f"127.0.0.1:{unused_tcp_port}"})
    with ingesting(nowhere, database_url) as ingest:
        eventually(lambda: any("starting" not in problem for problem in ingest.problems()))
        assert ingest.problems() != []


@pytest.mark.parametrize("second_log", [3, 60])
def test_a_broker_that_lost_its_log_is_read_from_the_beginning(
    new_engine: Callable[[Path], Engine], database_url: str, tmp_path: Path, second_log: int
) -> None:
    """Whether the stored offset lies beyond the new log, or by chance inside it."""
    first = [events.queued(samples.sms(to=f"+1202555{n:04}")) for n in range(30)]
    second = [events.queued(samples.sms(to=f"+1202556{n:04}")) for n in range(second_log)]
    for n, published in enumerate((first, second)):
        engine = new_engine(tmp_path / str(n))
        engine.start()
        try:
            broker = Broker({"bootstrap.servers": engine.bootstrap_servers})
            broker.apply_topics()
            one_key = [("k", CODEC.encode(event, topic=STATUS)) for event in published]
            publish_bytes(broker, one_key)
            expected = {event.message_id for event in published}
            with ingesting(broker, database_url):
                eventually(partial(includes, database_url, expected))
        finally:
            engine.stop()


def test_the_group_is_the_one_of_the_contract() -> None:
    assert GROUP == "comms-audit"
