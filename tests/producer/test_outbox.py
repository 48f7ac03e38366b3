"""The outbox in the caller's own transaction, on a real PostgreSQL, with every connection type."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from comms.platform.upgrading import sqlalchemy_url
from producer.connections import AsyncHandle, UnsupportedConnectionError
from producer.outbox import Outbox
from producer.statements import Enqueued, KeyConflict
from schemas.codec import Codec
from schemas.errors import InvalidRecordError
from schemas.messages import SmsMessage
from schemas.vocabulary import Status
from tests.producer.samples import sms

OUTBOX = Outbox()


def counts(database: psycopg.Connection) -> tuple[int, int, int]:
    row = database.execute(
        "SELECT (SELECT count(*) FROM producer.message), (SELECT count(*) FROM producer.outbox),"
        " (SELECT count(*) FROM producer.scheduled)"
    ).fetchone()
    assert row is not None
    return row


def test_a_rolled_back_transaction_sends_nothing(
    database_url: str, database: psycopg.Connection
) -> None:
    with psycopg.connect(database_url) as connection:
        assert isinstance(OUTBOX.enqueue(connection, sms(), idempotency_key="k"), Enqueued)
        connection.rollback()
    assert counts(database) == (0, 0, 0)


def test_a_committed_transaction_queues_the_encoded_message_once(
    database_url: str, database: psycopg.Connection
) -> None:
    message = sms()
    with psycopg.connect(database_url) as connection:
        result = OUTBOX.enqueue(connection, message)
    assert result == Enqueued(message.id, Status.PENDING, replayed=False)
    assert counts(database) == (1, 1, 0)
    row = database.execute("SELECT topic, key, value FROM producer.outbox").fetchone()
    assert row is not None
    assert row[:2] == ("comms.sms", "acme:+12025550100")
    assert Codec().decode(row[2], SmsMessage) == message


def test_the_same_key_is_a_replay_or_a_conflict(
    database: psycopg.Connection,
) -> None:
    first = OUTBOX.enqueue(database, sms(), idempotency_key="k")
    assert isinstance(first, Enqueued)
    replay = OUTBOX.enqueue(database, sms(), idempotency_key="k")
    conflict = OUTBOX.enqueue(database, sms("other"), idempotency_key="k")
    other_tenant = OUTBOX.enqueue(database, replace(sms(), tenant="zeta"), idempotency_key="k")
    assert replay == Enqueued(first.id, Status.PENDING, replayed=True)
    assert conflict == KeyConflict(first.id)
    assert isinstance(other_tenant, Enqueued)
    assert not other_tenant.replayed
    assert counts(database) == (2, 2, 0)


def test_the_same_message_id_twice_makes_one_message(database: psycopg.Connection) -> None:
    message = sms()
    OUTBOX.enqueue(database, message)
    replay = OUTBOX.enqueue(database, message)
    conflict = OUTBOX.enqueue(database, replace(message, body="other"))
    other_tenant = OUTBOX.enqueue(database, replace(message, tenant="zeta"))
    assert replay == Enqueued(message.id, Status.PENDING, replayed=True)
    assert conflict == other_tenant == KeyConflict(message.id)
    assert counts(database) == (1, 1, 0)


def test_results_and_rows_keep_the_order_of_the_messages(
    database: psycopg.Connection,
) -> None:
    messages = [sms("a"), sms("b"), sms("a"), sms("c"), sms("z")]
    results = OUTBOX.enqueue(database, messages, idempotency_key=["2", "1", "2", "1", None])
    assert results == (
        Enqueued(messages[0].id, Status.PENDING, replayed=False),
        Enqueued(messages[1].id, Status.PENDING, replayed=False),
        Enqueued(messages[0].id, Status.PENDING, replayed=True),
        KeyConflict(messages[1].id),
        Enqueued(messages[4].id, Status.PENDING, replayed=False),
    )
    rows = database.execute("SELECT message_id FROM producer.outbox ORDER BY xid, seq").fetchall()
    assert [row[0] for row in rows] == [messages[n].id for n in (0, 1, 4)]


def test_1000_messages_are_queued_in_their_order(database: psycopg.Connection) -> None:
    messages = [sms(str(n)) for n in range(1000)]
    keys = [str(n * 7919 % 1000) for n in range(1000)]
    OUTBOX.enqueue(database, messages, idempotency_key=keys)
    rows = database.execute("SELECT message_id FROM producer.outbox ORDER BY xid, seq").fetchall()
    assert [row[0] for row in rows] == [message.id for message in messages]


def test_a_message_with_a_future_send_at_is_scheduled(database: psycopg.Connection) -> None:
    later, past = sms(in_minutes=5), sms(in_minutes=-5)
    OUTBOX.enqueue(database, [later, past])
    assert counts(database) == (2, 1, 1)
    row = database.execute("SELECT message_id, due_at FROM producer.scheduled").fetchone()
    assert row == (later.id, later.send_at)


def test_a_replay_has_the_current_status(database: psycopg.Connection) -> None:
    message = sms()
    OUTBOX.enqueue(database, message, idempotency_key="k")
    database.execute("SELECT consumers.withdraw(%s, 'acme', 'sms')", (message.id,))
    replay = OUTBOX.enqueue(database, sms(), idempotency_key="k")
    assert replay == Enqueued(message.id, Status.CANCELLED, replayed=True)


def test_a_broken_rule_writes_nothing_and_names_the_message(database: psycopg.Connection) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        OUTBOX.enqueue(database, [sms(), sms(to="5")])
    assert [violation.field for violation in caught.value.violations] == ["messages[1].to"]
    assert counts(database) == (0, 0, 0)


def test_an_empty_list_has_no_results(database: psycopg.Connection) -> None:
    assert OUTBOX.enqueue(database, []) == ()


def test_fifty_threads_with_one_key_make_one_message(
    database_url: str, database: psycopg.Connection
) -> None:
    def post(n: int) -> Enqueued | KeyConflict:
        with psycopg.connect(database_url) as connection:
            # Two keys in opposite orders, which could make two transactions wait for each other.
            keys = ["one", "two"] if n % 2 else ["two", "one"]
            return OUTBOX.enqueue(connection, [sms(), sms()], idempotency_key=keys)[n % 2 - 1]

    with ThreadPoolExecutor(25) as threads:
        results = list(threads.map(post, range(50)))
    assert all(isinstance(result, Enqueued) for result in results)
    assert sum(not result.replayed for result in results if isinstance(result, Enqueued)) == 1
    assert len({result.id for result in results}) == 1
    assert counts(database) == (2, 2, 0)


def test_a_connection_with_dict_rows_works(database_url: str) -> None:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        assert isinstance(OUTBOX.enqueue(connection, sms()), Enqueued)


@pytest.mark.parametrize("commits", [True, False])
def test_a_sqlalchemy_connection_and_session_work(
    database_url: str, database: psycopg.Connection, commits: bool
) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    with engine.connect() as connection:
        first = OUTBOX.enqueue(connection, sms(), idempotency_key="k")
        connection.commit() if commits else connection.rollback()
    with Session(engine) as session:
        replay = OUTBOX.enqueue(session, sms(), idempotency_key="k")
        session.commit() if commits else session.rollback()
    assert isinstance(first, Enqueued)
    assert isinstance(replay, Enqueued)
    assert replay.replayed is commits
    assert counts(database)[0] == int(commits)


Opener = Callable[[str], AbstractAsyncContextManager[AsyncHandle]]


@asynccontextmanager
async def open_psycopg(url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def open_sqlalchemy(url: str) -> AsyncIterator[AsyncHandle]:
    engine = create_async_engine(sqlalchemy_url(url), poolclass=NullPool)
    async with engine.begin() as connection:
        yield connection


@asynccontextmanager
async def open_session(url: str) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(sqlalchemy_url(url), poolclass=NullPool)
    async with AsyncSession(engine) as session, session.begin():
        yield session


@pytest.mark.parametrize("open_connection", [open_psycopg, open_sqlalchemy, open_session])
async def test_asynchronous_connections_work(
    database_url: str, database: psycopg.Connection, open_connection: Opener
) -> None:
    class WorkflowError(Exception):
        """The error that a workflow raises."""

    async def fail_after_enqueue() -> None:
        async with open_connection(database_url) as connection:
            await OUTBOX.enqueue(connection, sms(), idempotency_key="k")
            raise WorkflowError

    with pytest.raises(WorkflowError):
        await fail_after_enqueue()
    assert counts(database) == (0, 0, 0)
    async with open_connection(database_url) as connection:
        first = await OUTBOX.enqueue(connection, sms(), idempotency_key="k")
        replay = await OUTBOX.enqueue(connection, [sms(), sms("x")], idempotency_key=["k", "k"])
    assert replay == (Enqueued(first.id, Status.PENDING, replayed=True), KeyConflict(first.id))
    assert counts(database) == (1, 1, 0)


async def test_fifty_tasks_with_one_key_make_one_message(
    database_url: str, database: psycopg.Connection
) -> None:
    async def post() -> Enqueued | KeyConflict:
        async with open_psycopg(database_url) as connection:
            waiting: Awaitable[Enqueued | KeyConflict] = OUTBOX.enqueue(
                connection, sms(), idempotency_key="k"
            )
            return await waiting

    results = await asyncio.gather(*(post() for _ in range(50)))
    assert len({result.id for result in results}) == 1
    assert counts(database) == (1, 1, 0)


def test_the_error_for_another_driver_names_it() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(UnsupportedConnectionError, match="pysqlite"),
    ):
        OUTBOX.enqueue(connection, sms())
    engine.dispose()
