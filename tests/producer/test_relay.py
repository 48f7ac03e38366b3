"""The relay with a real PostgreSQL and a real broker: each message once, in order, none lost."""

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

from comms.platform.kafka import Broker, Record
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
    """The messages and events that were read from the topics."""

    broker: Broker
    messages: list[SmsMessage] = field(default_factory=list)
    events: list[StatusEvent] = field(default_factory=list)

    def read_until(self, is_complete: Callable[["Topics"], bool], *, seconds: float = 30.0) -> None:
        consumer = self.broker.consumer(f"test-{uuid4()}", [of_channel(Channel.SMS), STATUS])
        self.messages, self.events = [], []
        deadline = time.monotonic() + seconds
        try:
            while not is_complete(self):
                assert time.monotonic() < deadline, (
                    f"the expected records were not read within {seconds} s"
                )
                for record in consumer.poll(500, 0.1):
                    self._append(record)
        finally:
            consumer.close()

    def _append(self, record: Record) -> None:
        if record.topic == STATUS:
            self.events.append(CODEC.decode(record.value, StatusEvent))
        else:
            self.messages.append(CODEC.decode(record.value, SmsMessage))

    def count(self, message_id: UUID) -> int:
        return sum(message.id == message_id for message in self.messages)

    def statuses(self, message_id: UUID) -> list[Status]:
        return [event.status for event in self.events if event.message_id == message_id]


@pytest.fixture
def topics(broker: Broker) -> Topics:
    return Topics(broker)


@contextmanager
def relaying(
    broker: Broker, database_url: str, intervals: RelayIntervals = QUICK
) -> Iterator[HealthState]:
    """Run a relay on a thread inside the `with` block."""
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


def count_queued(database: psycopg.Connection) -> int:
    row = database.execute("SELECT count(*) FROM producer.outbox").fetchone()
    assert row is not None
    return int(row[0])


def count_unread(database: psycopg.Connection) -> int:
    return len(queue.read(database, frozenset(SHARDS)))


def test_committed_messages_are_published_in_order_with_their_events(
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


def test_a_restarted_relay_continues_at_its_position(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    first, second = sms(), sms()
    OUTBOX.enqueue(database, first)
    with relaying(broker, database_url, RelayIntervals()):
        wait_for(lambda: count_unread(database) == 0)
    OUTBOX.enqueue(database, second)
    with relaying(broker, database_url, RelayIntervals()):
        topics.read_until(lambda t: t.count(second.id) > 0)
    assert (topics.count(first.id), topics.count(second.id)) == (1, 1)


def test_a_row_stays_until_a_consumer_has_claimed_its_message(
    broker: Broker, database_url: str, database: psycopg.Connection
) -> None:
    claimed_message, unclaimed = sms(), sms()
    OUTBOX.enqueue(database, [claimed_message, unclaimed])
    with relaying(broker, database_url, RelayIntervals()):
        wait_for(lambda: count_unread(database) == 0)
        assert count_queued(database) == 2
        publish_event(
            broker, claimed(claimed_message, attempt=1, provider="p", at=claimed_message.created_at)
        )
        wait_for(lambda: count_queued(database) == 1)
    assert database.execute("SELECT message_id FROM producer.outbox").fetchall() == [
        (unclaimed.id,)
    ]


def publish_event(broker: Broker, event: StatusEvent) -> None:
    producer = broker.producer()
    producer.publish(
        STATUS, key=str(event.message_id), value=CODEC.encode(event, topic=STATUS), on_ack=None
    )
    assert producer.flush(10) == 0
    producer.close()


def test_an_unclaimed_row_is_published_again(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    message = sms()
    OUTBOX.enqueue(database, message)
    with relaying(broker, database_url):
        wait_for(lambda: count_unread(database) == 0)
        database.execute("UPDATE producer.outbox SET republish_at = now()")
        topics.read_until(lambda t: t.count(message.id) == 2 and t.statuses(message.id) != [])
        # The record is in the topic before the relay updates the row.
        wait_for(lambda: read_republished(database) == 1)
    assert topics.statuses(message.id) == [Status.PENDING]


def read_republished(database: psycopg.Connection) -> int:
    row = database.execute("SELECT republished FROM producer.outbox").fetchone()
    assert row is not None
    return int(row[0])


def test_a_status_event_in_the_queue_is_published_and_deleted(
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
        wait_for(lambda: count_queued(database) == 0)


def test_a_scheduled_message_is_published_when_due(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    due, later = sms(in_minutes=1), sms(in_minutes=60)
    OUTBOX.enqueue(database, [due, later])
    database.execute(
        "UPDATE producer.scheduled SET due_at = now() WHERE message_id = %s", (due.id,)
    )
    with relaying(broker, database_url):
        topics.read_until(lambda t: t.count(due.id) == 1)
    assert topics.count(later.id) == 0


def test_a_second_relay_shares_the_work_and_can_stop(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    messages = [sms() for _ in range(3)]
    with relaying(broker, database_url, RelayIntervals(shards=0.1)):
        with relaying(broker, database_url, RelayIntervals(shards=0.1)):
            OUTBOX.enqueue(database, messages[0])
            topics.read_until(lambda t: t.count(messages[0].id) == 1)
        OUTBOX.enqueue(database, messages[1])
        topics.read_until(lambda t: t.count(messages[1].id) == 1)
    assert [topics.count(message.id) for message in messages] == [1, 1, 0]


def test_a_lost_database_session_is_replaced(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    message = sms()
    with relaying(broker, database_url) as health:
        wait_for(lambda: len(relay_pids(database)) == 1)
        former = relay_pids(database)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'comms-%' AND datname = current_database()"
        )
        wait_for(lambda: len(relay_pids(database) - former) == 1)
        OUTBOX.enqueue(database, message)
        topics.read_until(lambda t: t.count(message.id) == 1)
        wait_for(lambda: health.problems() == [])


def relay_pids(database: psycopg.Connection) -> set[int]:
    rows = database.execute(
        "SELECT pid FROM pg_stat_activity"
        " WHERE application_name = 'comms-relay' AND datname = current_database()"
    )
    return {row[0] for row in rows}


def test_without_kafka_no_row_counts_as_published(
    database_url: str, database: psycopg.Connection
) -> None:
    unreachable = Broker({"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": "1000"})
    OUTBOX.enqueue(database, sms())
    with relaying(unreachable, database_url) as health:
        wait_for(lambda: any(line.startswith("kafka") for line in health.problems()))
        assert count_unread(database) == 1


def test_a_record_too_large_for_kafka_fails_without_blocking_others(
    broker: Broker, database_url: str, database: psycopg.Connection, topics: Topics
) -> None:
    large, small = sms(), sms()
    OUTBOX.enqueue(database, [large, small])
    database.execute(
        "UPDATE producer.outbox SET value = %s WHERE message_id = %s",
        (bytes(9 * 1024 * 1024), large.id),
    )
    with relaying(broker, database_url):
        topics.read_until(lambda t: Status.FAILED in t.statuses(large.id) and t.count(small.id) > 0)
        wait_for(lambda: count_queued(database) == 1)


def test_a_broker_that_lost_its_data_gets_all_messages_again_in_order(
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
            wait_for(lambda: count_unread(database) == 0)
            engine.stop(grace=0)
            OUTBOX.enqueue(database, after)
            engine.start()
            broker.apply_topics()
            topics = Topics(broker)
            topics.read_until(lambda t: t.count(after[-1].id) > 0)
    finally:
        engine.stop()
    assert [message.id for message in topics.messages] == [m.id for m in (*before, *after)]
