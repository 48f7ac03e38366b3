"""The cursor over the queue: with many writers at once it skips no row and keeps the order."""

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
    """Read everything there is, moving the cursor."""
    seen: list[UUID] = []
    while rows := queue.read(relay, ALL):
        queue.advance(relay, rows)
        seen += [row.message_id for row in rows]
    return seen


def test_no_row_is_skipped_with_concurrent_writers(
    database_url: str, relay: psycopg.Connection
) -> None:
    written = Event()

    def write(seed: int) -> list[UUID]:
        chance, mine = random.Random(seed), []
        with psycopg.connect(database_url) as connection:
            for _ in range(60):
                batch = [
                    sms(to=f"+120255501{chance.randrange(100):02}")
                    for _ in range(chance.randrange(1, 6))
                ]
                for message in batch:  # a statement each, so that transactions interleave
                    OUTBOX.enqueue(connection, message)
                if chance.random() < 0.15:
                    connection.rollback()
                else:
                    connection.commit()
                    mine += [message.id for message in batch]
        return mine

    def follow() -> list[UUID]:
        seen = []
        while not written.is_set():
            seen += drain(relay)
        return seen + drain(relay)

    with ThreadPoolExecutor(9) as threads:
        reading = threads.submit(follow)
        try:
            expected = [one for mine in threads.map(write, range(8)) for one in mine]
        finally:
            written.set()
        seen = reading.result()
    assert len(seen) == len(set(seen))
    assert set(seen) == set(expected)


def test_a_row_waits_for_the_transactions_that_began_before_it(
    database_url: str, relay: psycopg.Connection
) -> None:
    first, second = sms(), sms()
    with psycopg.connect(database_url) as slow:
        OUTBOX.enqueue(slow, first)
        OUTBOX.enqueue(relay, second)
        assert drain(relay) == []
    assert drain(relay) == [first.id, second.id]


def test_one_recipients_messages_keep_their_order(relay: psycopg.Connection) -> None:
    messages = [sms(str(n)) for n in range(1200)]
    for start in range(0, 1200, 100):
        OUTBOX.enqueue(relay, messages[start : start + 100])
    assert drain(relay) == [message.id for message in messages]


def test_a_batch_is_bounded_by_its_bytes_and_has_a_row(relay: psycopg.Connection) -> None:
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
        assert second == frozenset(), "what is held is not taken"
        relay.close()
        while second != ALL:  # the server notices a closed session a moment later
            second = take_shards(other, second)


def test_relays_share_the_shards_of_every_lane_evenly(
    database_url: str, relay: psycopg.Connection
) -> None:
    held = take_shards(relay, frozenset())
    with psycopg.connect(database_url, autocommit=True) as other:
        taken = take_shards(other, frozenset())
        held = take_shards(relay, held)
        taken = take_shards(other, taken)
        assert (len(held), held | taken, held & taken) == (12, ALL, frozenset())
        assert {lane_of(shard) for shard in held} == {lane_of(shard) for shard in taken}
        assert (take_shards(relay, held), take_shards(other, taken)) == (held, taken)


def test_an_urgent_message_is_not_read_behind_bulk(relay: psycopg.Connection) -> None:
    bulk = [sms(f"bulk {n}", priority=Priority.BULK) for n in range(900)]
    OUTBOX.enqueue(relay, bulk)
    urgent = sms("code 1234", priority=Priority.HIGH, to="+12025550177")
    OUTBOX.enqueue(relay, urgent)
    rows = queue.read(relay, ALL)
    assert urgent.id in {row.message_id for row in rows}
    assert len(rows) <= 1 + len(BULK) * queue.BULK_ROWS
    assert {row.topic for row in rows} == {"comms.sms.high", "comms.sms.bulk"}


def published(relay: psycopg.Connection) -> list[tuple[UUID, str]]:
    """What the next step would publish, lane by lane."""
    rows, found = queue.read(relay, ALL), []
    for lane in URGENCY:
        if batch := [row for row in rows if row.lane is lane]:
            found += keep_order(batch, queue.read_pending_for_recipients(relay, batch))
    return [(row.message_id, row.topic) for row in found]


def test_what_an_urgent_message_would_pass_goes_before_it(relay: psycopg.Connection) -> None:
    other = sms("somebody else", priority=Priority.BULK, to="+12025550166")
    slow, usual = sms("newsletter", priority=Priority.BULK), sms("your visit")
    urgent = sms("code 1234", priority=Priority.HIGH)
    for message in (other, slow, usual, urgent):
        OUTBOX.enqueue(relay, message)
    high, line = "comms.sms.high", [slow.id, usual.id, urgent.id]
    assert [i for i, topic in published(relay) if topic == high][:3] == line
    assert (other.id, "comms.sms.bulk") in published(relay)


def test_what_is_slower_joins_the_lane_of_what_it_might_pass(relay: psycopg.Connection) -> None:
    urgent, later = sms("code", priority=Priority.HIGH), sms("newsletter", priority=Priority.BULK)
    OUTBOX.enqueue(relay, urgent)
    OUTBOX.enqueue(relay, later)
    high = [message_id for message_id, topic in published(relay) if topic == "comms.sms.high"]
    assert high[0] == urgent.id
    assert high[-1] == later.id


def test_what_was_moved_to_another_lane_stays_in_it(relay: psycopg.Connection) -> None:
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
    found = published(relay)
    assert {topic for _, topic in found} == {"comms.sms.high"}
    assert [message_id for message_id, _ in found][-2:] == [slow.id, another.id]


def test_messages_of_one_lane_are_published_once_and_as_they_are(relay: psycopg.Connection) -> None:
    messages = [sms(str(n), priority=Priority.BULK) for n in range(5)]
    OUTBOX.enqueue(relay, messages)
    OUTBOX.enqueue(relay, sms("for somebody else", to="+12025550166"))
    bulk = [message_id for message_id, topic in published(relay) if topic == "comms.sms.bulk"]
    assert bulk == [message.id for message in messages]


def test_what_stands_in_the_faster_lane_is_not_published_again(relay: psycopg.Connection) -> None:
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
def test_no_topic_holds_a_recipients_message_before_an_earlier_unclaimed_one(
    accepted: list[tuple[Priority, int, bool]],
) -> None:
    """Each is accepted, and then perhaps relayed: the rows are built here, and nobody claims."""
    rows: list[QueueRow] = []
    cursors = dict.fromkeys(Priority, 0)
    log: dict[tuple[str, str], list[int]] = defaultdict(list)

    def relay_all() -> None:
        for lane in URGENCY:
            batch = [row for row in rows if row.lane is lane and row.seq > cursors[lane]]
            if batch:
                company = [
                    replace(row, is_published=row.seq <= cursors[row.lane])
                    for row in rows
                    if row.seq <= batch[-1].seq
                ]
                cursors[lane] = batch[-1].seq
                for row in keep_order(batch, company):
                    log[row.topic, row.key].append(row.seq)
                    if row.is_moved:
                        rows[row.seq - 1] = row_of(LANE_OF[row.topic], row.key, row.seq)

    for seq, (priority, recipient, then_relayed) in enumerate(accepted, 1):
        rows.append(row_of(priority, f"acme:{recipient}", seq))
        if then_relayed:
            relay_all()
    relay_all()
    for (_, key), seqs in log.items():
        of_recipient = {row.seq for row in rows if row.key == key}
        for place, seq in enumerate(seqs):
            if seqs.index(seq) == place:
                assert {s for s in of_recipient if s < seq} <= set(seqs[:place])


LANE_OF = {of_channel(Channel.SMS, priority): priority for priority in Priority}


def row_of(priority: Priority, key: str, seq: int) -> QueueRow:
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


def test_another_log_is_published_to_from_the_beginning(relay: psycopg.Connection) -> None:
    message = sms()
    OUTBOX.enqueue(relay, message)
    assert drain(relay) == [message.id]
    assert queue.set_log_id(relay, ALL, "a") == frozenset(), "the first one known"
    assert queue.set_log_id(relay, ALL, "a") == frozenset()
    assert drain(relay) == []
    assert queue.set_log_id(relay, ALL, "b") == ALL
    assert drain(relay) == [message.id]


def test_what_is_due_joins_the_queue_in_the_order_of_its_time(relay: psycopg.Connection) -> None:
    later, sooner, future = sms(in_minutes=9), sms(in_minutes=8), sms(in_minutes=60)
    OUTBOX.enqueue(relay, [later, future, sooner])
    assert queue.move_due(relay) == 0
    relay.execute("UPDATE producer.scheduled SET due_at = due_at - interval '10 minutes'")
    assert queue.move_due(relay) == 2
    assert drain(relay) == [sooner.id, later.id]
    assert relay.execute("SELECT message_id FROM producer.scheduled").fetchall() == [(future.id,)]


def test_only_what_was_read_and_is_overdue_is_published_again(relay: psycopg.Connection) -> None:
    read, unread = sms(), sms()
    OUTBOX.enqueue(relay, read)
    drain(relay)
    OUTBOX.enqueue(relay, unread)
    upto = queue.read_positions(relay, ALL)
    assert queue.read_unclaimed(relay, upto) == []
    relay.execute("UPDATE producer.outbox SET republish_at = now()")
    rows = queue.read_unclaimed(relay, upto)
    assert [row.message_id for row in rows] == [read.id]
    queue.postpone(relay, rows)
    assert queue.read_unclaimed(relay, upto) == []
    waits = relay.execute(
        "SELECT republished, round(extract(epoch FROM republish_at - now())) FROM producer.outbox"
        " WHERE message_id = %s",
        (read.id,),
    ).fetchone()
    assert waits == (1, 60)


def test_what_consumers_claimed_leaves_and_status_events_stay(relay: psycopg.Connection) -> None:
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
