"""The relay between a real PostgreSQL and a real broker: once each, in order, nothing lost."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event, Thread
from uuid import UUID, uuid4

import psycopg
import pytest

from comms.platform.kafka import Broker
from comms.stack.broker import EmbeddedBroker
from producer import queue
from producer.health_state import HealthState
from producer.outbox import Outbox
from producer.relay import relay
from producer.relay_session import RelayIntervals
from producer.shards import SHARDS
from schemas.codec import Codec
from schemas.events import StatusEvent, cancelled, claimed
from schemas.messages import SmsMessage
from schemas.topics import STATUS, of_channel
from schemas.vocabulary import Channel, Status
from tests import waiting
from tests.producer.samples import sms

OUTBOX, CODEC = Outbox(), Codec()
QUICK = RelayIntervals(schedule=0.05, shards=0.1, sweep=0.1, settle=0.1, measure=0.1)


@dataclass
class Topics:
    """Everything that stands in the topics, by message id, as far as it was read."""

    broker: Broker
    messages: list[SmsMessage] = field(default_factory=list)
    events: list[StatusEvent] = field(default_factory=list)

    def read_until(self, done: Callable[["Topics"], bool], *, seconds: float = 30.0) -> None:
        consumer = self.broker.consumer(f"test-{uuid4()}", [of_channel(Channel.SMS), STATUS])
        self.messages, self.events = [], []
        deadline = time.monotonic() + seconds
        try:
            while not done(self):
                assert time.monotonic() < deadline, f"not so within {seconds} s"
                for record in consumer.poll(500, 0.1):
                    if record.topic == STATUS:
                        self.events.append(CODEC.decode(record.value, StatusEvent))
                    else:
                        self.messages.append(CODEC.decode(record.value, SmsMessage))
        finally:
            consumer.close()

    def times(self, message_id: UUID) -> int:
        return sum(message.id == message_id for message in self.messages)

    def statuses(self, message_id: UUID) -> list[Status]:
        return [event.status for event in self.events if event.message_id == message_id]


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def topics(broker: Broker) -> Topics:
    return Topics(broker)


@contextmanager
def relaying(
    broker: Broker, database_url: str, intervals: RelayIntervals = QUICK
) -> Iterator[HealthState]:
    stop, health = Event(), HealthState()
    thread = Thread(
        target=relay,
        args=(broker, database_url, CODEC),
        kwargs={"health": health, "stop": stop, "intervals": intervals},
    )
    thread.start()
    try:
        yield health
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


wait_for = partial(waiting.wait_for, seconds=30)


def queued_rows(database: psycopg.Connection) -> int:
    row = database.execute("SELECT count(*) FROM producer.outbox").fetchone()
    assert row is not None
    return int(row[0])


def unread(database: psycopg.Connection) -> int:
    return len(queue.read(database, frozenset(SHARDS)))


def test_what_is_committed_is_published_with_its_event_and_in_order(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    messages = [sms(str(n)) for n in range(700)]
    with relaying(broker, database_url, RelayIntervals()):
        OUTBOX.enqueue(database, messages[:300])
        OUTBOX.enqueue(database, messages[300:])
        ids = {message.id for message in messages}
        topics.read_until(
            lambda t: ids <= {m.id for m in t.messages} and ids <= {e.message_id for e in t.events}
        )
    assert [message for message in topics.messages if message.id in ids] == messages
    assert topics.statuses(messages[0].id) == [Status.PENDING]
    event = next(e for e in topics.events if e.message_id == messages[0].id)
    assert (event.recipient, event.created_at) == (messages[0].to, messages[0].created_at)


def test_a_relay_that_starts_again_goes_on_where_it_was(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    first, second = sms(), sms()
    OUTBOX.enqueue(database, first)
    with relaying(broker, database_url, RelayIntervals()):
        wait_for(lambda: unread(database) == 0)
    OUTBOX.enqueue(database, second)
    with relaying(broker, database_url, RelayIntervals()):
        topics.read_until(lambda t: t.times(second.id) > 0)
    assert (topics.times(first.id), topics.times(second.id)) == (1, 1)


def test_a_row_stays_until_a_consumer_has_claimed_its_message(
    broker: Broker, database_url: str, database: psycopg.Connection
) -> None:
    taken, kept = sms(), sms()
    OUTBOX.enqueue(database, [taken, kept])
    with relaying(broker, database_url, RelayIntervals()):
        wait_for(lambda: unread(database) == 0)
        assert queued_rows(database) == 2
        announce(broker, claimed(taken, attempt=1, provider="p", at=taken.created_at))
        wait_for(lambda: queued_rows(database) == 1)
    assert database.execute("SELECT message_id FROM producer.outbox").fetchall() == [(kept.id,)]


def announce(broker: Broker, event: StatusEvent) -> None:
    producer = broker.producer()
    producer.publish(
        STATUS, key=str(event.message_id), value=CODEC.encode(event, topic=STATUS), on_ack=None
    )
    assert producer.flush(10) == 0
    producer.close()


def test_a_row_that_nobody_claims_is_published_again(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    message = sms()
    OUTBOX.enqueue(database, message)
    with relaying(broker, database_url):
        wait_for(lambda: unread(database) == 0)
        database.execute("UPDATE producer.outbox SET republish_at = now()")
        topics.read_until(lambda t: t.times(message.id) == 2 and t.statuses(message.id) != [])
        # The topic has it first: a fast broker's reader may be earlier than the relay's note.
        wait_for(lambda: times_published_again(database) == 1)
    assert topics.statuses(message.id) == [Status.PENDING]


def times_published_again(database: psycopg.Connection) -> int:
    row = database.execute("SELECT republished FROM producer.outbox").fetchone()
    assert row is not None
    return int(row[0])


def test_a_status_event_in_the_queue_is_published_and_gone(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    message = sms()
    event = cancelled(message, at=message.created_at)
    database.execute(
        "INSERT INTO producer.outbox (message_id, topic, key, value) VALUES (%s, %s, %s, %s)",
        (message.id, STATUS, str(message.id), CODEC.encode(event, topic=STATUS)),
    )
    with relaying(broker, database_url):
        topics.read_until(lambda t: t.statuses(message.id) == [Status.CANCELLED])
        wait_for(lambda: queued_rows(database) == 0)


def test_a_scheduled_message_is_published_when_due(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    soon, late = sms(in_minutes=1), sms(in_minutes=60)
    OUTBOX.enqueue(database, [soon, late])
    database.execute(
        "UPDATE producer.scheduled SET due_at = now() WHERE message_id = %s", (soon.id,)
    )
    with relaying(broker, database_url):
        topics.read_until(lambda t: t.times(soon.id) == 1)
    assert topics.times(late.id) == 0


def test_a_second_relay_stands_by_and_takes_over(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    messages = [sms() for _ in range(3)]
    with relaying(broker, database_url, RelayIntervals(shards=0.1)):
        with relaying(broker, database_url, RelayIntervals(shards=0.1)):
            OUTBOX.enqueue(database, messages[0])
            topics.read_until(lambda t: t.times(messages[0].id) == 1)
        OUTBOX.enqueue(database, messages[1])
        topics.read_until(lambda t: t.times(messages[1].id) == 1)
    assert [topics.times(message.id) for message in messages] == [1, 1, 0]


def test_a_lost_session_is_reported_and_followed_by_another(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    message = sms()
    with relaying(broker, database_url) as health:
        wait_for(lambda: len(sessions(database)) == 1)
        former = sessions(database)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'comms-%' AND datname = current_database()"
        )
        wait_for(lambda: len(sessions(database) - former) == 1)
        OUTBOX.enqueue(database, message)
        topics.read_until(lambda t: t.times(message.id) == 1)
        wait_for(lambda: health.problems() == [])


def sessions(database: psycopg.Connection) -> set[int]:
    rows = database.execute(
        "SELECT pid FROM pg_stat_activity"
        " WHERE application_name = 'comms-relay' AND datname = current_database()"
    )
    return {row[0] for row in rows}


def test_without_kafka_nothing_is_counted_as_published(
    database_url: str, database: psycopg.Connection
) -> None:
    nowhere = Broker({"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": "1000"})
    OUTBOX.enqueue(database, sms())
    with relaying(nowhere, database_url) as health:
        wait_for(lambda: any(line.startswith("kafka") for line in health.problems()))
        assert unread(database) == 1


def test_a_record_too_large_for_kafka_fails_alone(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    large, small = sms(), sms()
    OUTBOX.enqueue(database, [large, small])
    database.execute(
        "UPDATE producer.outbox SET value = %s WHERE message_id = %s",
        (bytes(9 * 1024 * 1024), large.id),
    )
    with relaying(broker, database_url):
        topics.read_until(lambda t: Status.FAILED in t.statuses(large.id) and t.times(small.id) > 0)
        wait_for(lambda: queued_rows(database) == 1)


def test_a_broker_that_forgot_everything_gets_it_again_in_order(
    tmp_path: Path, database_url: str, database: psycopg.Connection
) -> None:
    engine = EmbeddedBroker(tmp_path)
    engine.start()
    broker = Broker({"bootstrap.servers": engine.bootstrap_servers})
    broker.apply_topics()
    before, after = [sms(f"{n}") for n in range(20)], [sms(f"{n}") for n in range(20, 25)]
    try:
        with relaying(broker, database_url, RelayIntervals()):
            OUTBOX.enqueue(database, before)
            wait_for(lambda: unread(database) == 0)
            engine.stop(grace=0)
            OUTBOX.enqueue(database, after)
            engine.start()
            broker.apply_topics()
            topics = Topics(broker)
            topics.read_until(lambda t: t.times(after[-1].id) > 0)
    finally:
        engine.stop()
    assert [message.id for message in topics.messages] == [m.id for m in (*before, *after)]
