"""The position in the queue: with concurrent writers it skips no row and keeps the order."""

import random
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import queue
from producer.ordering import keep_order
from producer.outbox import Outbox
from producer.rows import QueueRow
from producer.shards import BULK, SHARDS, URGENCY, lane_of, take_shards
from schemas.topics import of_channel
from schemas.vocabulary import Channel, Priority
from tests.producer.samples import sms

OUTBOX = Outbox()
ALL = frozenset(SHARDS)


@pytest.fixture
def relay(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def drain(relay: psycopg.Connection) -> list[UUID]:
    """Read all rows, moving the position, and return the message ids."""
    message_ids: list[UUID] = []
    while rows := queue.read(relay, ALL):
        queue.advance(relay, rows)
        message_ids += [row.message_id for row in rows]
    return message_ids


def test_no_row_is_skipped_with_concurrent_writers(
    database_url: str, relay: psycopg.Connection
) -> None:
    all_written = Event()

    def write(seed: int) -> list[UUID]:
        dice, committed = random.Random(seed), []
        with psycopg.connect(database_url) as connection:
            for _ in range(60):
                batch = [
                    sms(to=f"+120255501{dice.randrange(100):02}")
                    for _ in range(dice.randrange(1, 6))
                ]
                for message in batch:  # one statement each, so that transactions interleave
                    OUTBOX.enqueue(connection, message)
                if dice.random() < 0.15:
                    connection.rollback()
                else:
                    connection.commit()
                    committed += [message.id for message in batch]
        return committed

    def follow() -> list[UUID]:
        seen = []
        while not all_written.is_set():
            seen += drain(relay)
        return seen + drain(relay)

    with ThreadPoolExecutor(9) as threads:
        reading = threads.submit(follow)
        try:
            expected = [each for ids in threads.map(write, range(8)) for each in ids]
        finally:
            all_written.set()
        seen = reading.result()
    assert len(seen) == len(set(seen))
    assert set(seen) == set(expected)


def test_a_row_is_read_after_all_earlier_transactions_have_ended(
    database_url: str, relay: psycopg.Connection
) -> None:
    first, second = sms(), sms()
    with psycopg.connect(database_url) as slow:
        OUTBOX.enqueue(slow, first)
        OUTBOX.enqueue(relay, second)
        assert drain(relay) == []
    assert drain(relay) == [first.id, second.id]


def test_the_messages_of_one_recipient_keep_their_order(relay: psycopg.Connection) -> None:
    messages = [sms(str(n)) for n in range(1200)]
    for start in range(0, 1200, 100):
        OUTBOX.enqueue(relay, messages[start : start + 100])
    assert drain(relay) == [message.id for message in messages]


def test_a_batch_has_a_size_limit_and_at_least_one_row(relay: psycopg.Connection) -> None:
    OUTBOX.enqueue(relay, [sms(str(n)) for n in range(4)])
    relay.execute("UPDATE producer.outbox SET value = %s", (bytes(queue.BATCH_BYTES // 2),))
    assert [len(queue.read(relay, ALL))] == [2]
    relay.execute("UPDATE producer.outbox SET value = %s", (bytes(queue.BATCH_BYTES + 1),))
    assert len(queue.read(relay, ALL)) == 1


def test_a_shard_has_one_owner_until_its_session_ends(
    database_url: str, relay: psycopg.Connection
) -> None:
    first = take_shards(relay, frozenset())
    assert first == ALL
    with psycopg.connect(database_url, autocommit=True) as other:
        second = take_shards(other, frozenset())
        assert second == frozenset(), "owned shards are not taken"
        relay.close()
        while second != ALL:  # PostgreSQL notices a closed session a moment later
            second = take_shards(other, second)


def test_relays_share_the_shards_of_every_lane_evenly(
    database_url: str, relay: psycopg.Connection
) -> None:
    first = take_shards(relay, frozenset())
    with psycopg.connect(database_url, autocommit=True) as other:
        second = take_shards(other, frozenset())
        first = take_shards(relay, first)
        second = take_shards(other, second)
        assert (len(first), first | second, first & second) == (12, ALL, frozenset())
        assert {lane_of(shard) for shard in first} == {lane_of(shard) for shard in second}
        assert (take_shards(relay, first), take_shards(other, second)) == (first, second)


def test_an_urgent_message_is_not_read_behind_bulk(relay: psycopg.Connection) -> None:
    bulk = [sms(f"bulk {n}", priority=Priority.BULK) for n in range(900)]
    OUTBOX.enqueue(relay, bulk)
    urgent = sms("code 1234", priority=Priority.HIGH, to="+12025550177")
    OUTBOX.enqueue(relay, urgent)
    rows = queue.read(relay, ALL)
    assert urgent.id in {row.message_id for row in rows}
    assert len(rows) <= 1 + len(BULK) * queue.BULK_ROWS
    assert {row.topic for row in rows} == {"comms.sms.high", "comms.sms.bulk"}


def next_published(relay: psycopg.Connection) -> list[tuple[UUID, str]]:
    """Return the messages and topics that the next step would publish, lane by lane."""
    rows, to_publish = queue.read(relay, ALL), []
    for lane in URGENCY:
        if batch := [row for row in rows if row.lane is lane]:
            to_publish += keep_order(batch, queue.read_pending_for_recipients(relay, batch))
    return [(row.message_id, row.topic) for row in to_publish]


def test_an_urgent_message_follows_the_earlier_ones_of_its_recipient(
    relay: psycopg.Connection,
) -> None:
    other = sms("another recipient", priority=Priority.BULK, to="+12025550166")
    bulk, normal = sms("newsletter", priority=Priority.BULK), sms("your visit")
    urgent = sms("code 1234", priority=Priority.HIGH)
    for message in (other, bulk, normal, urgent):
        OUTBOX.enqueue(relay, message)
    published = next_published(relay)
    high = [message_id for message_id, topic in published if topic == "comms.sms.high"]
    assert high[:3] == [bulk.id, normal.id, urgent.id]
    assert (other.id, "comms.sms.bulk") in published


def test_a_bulk_message_joins_the_lane_of_an_earlier_urgent_one(relay: psycopg.Connection) -> None:
    urgent, later = sms("code", priority=Priority.HIGH), sms("newsletter", priority=Priority.BULK)
    OUTBOX.enqueue(relay, urgent)
    OUTBOX.enqueue(relay, later)
    high = [message_id for message_id, topic in next_published(relay) if topic == "comms.sms.high"]
    assert high[0] == urgent.id
    assert high[-1] == later.id


def test_a_moved_message_stays_in_its_new_lane(relay: psycopg.Connection) -> None:
    urgent, slow = sms("code", priority=Priority.HIGH), sms("newsletter", priority=Priority.BULK)
    OUTBOX.enqueue(relay, urgent)
    OUTBOX.enqueue(relay, slow)
    for lane in URGENCY:
        batch = [row for row in queue.read(relay, ALL) if row.lane is lane]
        if batch:
            rows = keep_order(batch, queue.read_pending_for_recipients(relay, batch))
            queue.advance(relay, batch, [row for row in rows if row.is_moved])
    assert queue.delete_claimed(relay, [urgent.id]) == 1
    another = sms("another newsletter", priority=Priority.BULK)
    OUTBOX.enqueue(relay, another)
    published = next_published(relay)
    assert {topic for _, topic in published} == {"comms.sms.high"}
    assert [message_id for message_id, _ in published][-2:] == [slow.id, another.id]


def test_messages_of_one_lane_are_published_once_in_their_lane(relay: psycopg.Connection) -> None:
    messages = [sms(str(n), priority=Priority.BULK) for n in range(5)]
    OUTBOX.enqueue(relay, messages)
    OUTBOX.enqueue(relay, sms("another recipient", to="+12025550166"))
    bulk = [message_id for message_id, topic in next_published(relay) if topic == "comms.sms.bulk"]
    assert bulk == [message.id for message in messages]


def test_a_message_already_in_the_faster_lane_is_not_published_again(
    relay: psycopg.Connection,
) -> None:
    OUTBOX.enqueue(relay, sms("newsletter", priority=Priority.BULK))
    for number in range(20):
        OUTBOX.enqueue(relay, sms(f"{number}", priority=Priority.HIGH))
        for lane in URGENCY:
            if batch := [row for row in queue.read(relay, ALL) if row.lane is lane]:
                rows = keep_order(batch, queue.read_pending_for_recipients(relay, batch))
                assert len(rows) <= len(batch) + 1
                queue.advance(relay, batch, [row for row in rows if row.is_moved])


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Priority)), st.integers(0, 2), st.booleans()), max_size=30
    )
)
def test_no_topic_has_a_message_before_an_earlier_unclaimed_one(
    accepted: list[tuple[Priority, int, bool]],
) -> None:
    """Messages are accepted, and relayed at random moments; none of them is claimed."""
    rows: list[QueueRow] = []
    positions = dict.fromkeys(Priority, 0)
    records: dict[tuple[str, str], list[int]] = defaultdict(list)

    def relay_all() -> None:
        for lane in URGENCY:
            batch = [row for row in rows if row.lane is lane and row.seq > positions[lane]]
            if batch:
                relay_batch(lane, batch)

    def relay_batch(lane: Priority, batch: list[QueueRow]) -> None:
        pending = [
            replace(row, is_published=row.seq <= positions[row.lane])
            for row in rows
            if row.seq <= batch[-1].seq
        ]
        positions[lane] = batch[-1].seq
        for row in keep_order(batch, pending):
            records[row.topic, row.key].append(row.seq)
            if row.is_moved:
                rows[row.seq - 1] = make_row(LANE_OF[row.topic], row.key, row.seq)

    for seq, (priority, recipient, is_relayed) in enumerate(accepted, 1):
        rows.append(make_row(priority, f"acme:{recipient}", seq))
        if is_relayed:
            relay_all()
    relay_all()
    for (_, key), seqs in records.items():
        of_recipient = {row.seq for row in rows if row.key == key}
        for index, seq in enumerate(seqs):
            if seqs.index(seq) == index:
                assert {s for s in of_recipient if s < seq} <= set(seqs[:index])


LANE_OF = {of_channel(Channel.SMS, priority): priority for priority in Priority}


def make_row(priority: Priority, key: str, seq: int) -> QueueRow:
    shard = {Priority.NORMAL: 0, Priority.HIGH: 8, Priority.BULK: 16}[priority]
    return QueueRow(
        message_id=UUID(int=seq),
        topic=of_channel(Channel.SMS, priority),
        key=key,
        value=b"",
        shard=shard,
        xid="1",
        seq=seq,
        tenant="acme",
        channel="sms",
        recipient=key,
        customer_id=None,
        workflow=None,
        priority=priority,
        created_at=None,
        send_at=None,
        expires_at=None,
        metadata=None,
    )


def test_replaced_topics_are_published_to_from_the_beginning(relay: psycopg.Connection) -> None:
    message = sms()
    OUTBOX.enqueue(relay, message)
    assert drain(relay) == [message.id]
    assert queue.set_log_id(relay, ALL, "a") == frozenset(), "the first identity"
    assert queue.set_log_id(relay, ALL, "a") == frozenset()
    assert drain(relay) == []
    assert queue.set_log_id(relay, ALL, "b") == ALL
    assert drain(relay) == [message.id]


def test_due_messages_are_queued_in_the_order_of_their_time(relay: psycopg.Connection) -> None:
    later, sooner, future = sms(in_minutes=9), sms(in_minutes=8), sms(in_minutes=60)
    OUTBOX.enqueue(relay, [later, future, sooner])
    assert queue.move_due(relay) == 0
    relay.execute("UPDATE producer.scheduled SET due_at = due_at - interval '10 minutes'")
    assert queue.move_due(relay) == 2
    assert drain(relay) == [sooner.id, later.id]
    assert relay.execute("SELECT message_id FROM producer.scheduled").fetchall() == [(future.id,)]


def test_only_published_rows_that_are_overdue_are_published_again(
    relay: psycopg.Connection,
) -> None:
    published, unpublished = sms(), sms()
    OUTBOX.enqueue(relay, published)
    drain(relay)
    OUTBOX.enqueue(relay, unpublished)
    upto = queue.read_positions(relay, ALL)
    assert queue.read_unclaimed(relay, upto) == []
    relay.execute("UPDATE producer.outbox SET republish_at = now()")
    rows = queue.read_unclaimed(relay, upto)
    assert [row.message_id for row in rows] == [published.id]
    queue.postpone(relay, rows)
    assert queue.read_unclaimed(relay, upto) == []
    row = relay.execute(
        "SELECT republished, round(extract(epoch FROM republish_at - now())) FROM producer.outbox"
        " WHERE message_id = %s",
        (published.id,),
    ).fetchone()
    assert row == (1, 60)


def test_claimed_messages_are_deleted_and_status_events_stay(relay: psycopg.Connection) -> None:
    message = sms()
    OUTBOX.enqueue(relay, message)
    relay.execute(
        "INSERT INTO producer.outbox (message_id, topic, key, value)"
        " VALUES (%s, 'comms.status', 'k', '')",
        (message.id,),
    )
    assert queue.measure_backlog(relay)[0] == 1
    assert queue.delete_claimed(relay, [message.id, message.id, sms().id]) == 1
    assert [row.is_event for row in queue.read(relay, ALL)] == [True]
    assert drain(relay) == [message.id]
    assert relay.execute("SELECT count(*) FROM producer.outbox").fetchone() == (0,)
