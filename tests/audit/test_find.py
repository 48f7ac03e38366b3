"""Pages of messages, put together from what is recorded and what is only accepted."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from audit import merge
from audit.queries import messages
from audit.queries.messages import Connection, Filters
from comms.platform.clock import utc_now
from schemas import events
from schemas.messages import SmsMessage
from schemas.vocabulary import Reason, Status
from tests.audit import samples
from tests.audit.test_api import accept

COUNT = 60
KINDS = ("queued", "scheduled", "just accepted", "recorded pending", "delivered", "front door")


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def by_kind(connection: merge.Connection) -> dict[str, list[SmsMessage]]:
    """Messages of every kind, mixed, as the producer and the audit service know them."""
    found: dict[str, list[SmsMessage]] = {kind: [] for kind in KINDS}
    recorded: list[Any] = []
    start = utc_now() - timedelta(seconds=100)
    for n in range(COUNT):
        kind = KINDS[n % len(KINDS)]
        message = samples.sms(at=start + timedelta(seconds=n), workflow=f"w{n % 5}")
        found[kind].append(message)
        queue = {"scheduled": "scheduled", "just accepted": "none"}.get(kind, "outbox")
        if kind != "front door":
            accept(connection, message, queue=queue)
        if kind == "recorded pending":
            recorded.append(events.queued(message))
        if kind == "delivered":
            recorded += samples.delivered_life(message)
        if kind == "front door":
            recorded.append(samples.refused(message, 1, 50))
    merge.merge(connection, recorded, {})
    return found


async def all_pages(reader: Connection, filters: Filters, *, limit: int) -> list[UUID]:
    """The ids of all pages, in the order in which they were shown."""
    shown: list[UUID] = []
    before: UUID | None = None
    while True:
        page = await messages.find(reader, "acme", filters, limit=limit, before=before)
        shown += [item.id for item in page.items]
        if page.next_cursor is None:
            return shown
        assert len(page.items) == limit
        before = UUID(page.next_cursor)


def newest_first(*kinds: list[SmsMessage]) -> list[UUID]:
    return sorted((message.id for kind in kinds for message in kind), reverse=True)


@pytest.mark.parametrize("limit", [1, 4, 7, 59, 60, 100])
@pytest.mark.parametrize(
    ("filters", "kinds"),
    [
        (Filters(), KINDS),
        (Filters(status=Status.PENDING), KINDS[:4]),
        (Filters(reason=Reason.QUEUED), ("queued", "just accepted", "recorded pending")),
        (Filters(reason=Reason.SCHEDULED), ("scheduled",)),
        (Filters(status=Status.DELIVERED), ("delivered",)),
        (Filters(status=Status.FAILED), ("front door",)),
        (Filters(provider="simulated"), ("delivered", "front door")),
    ],
)
async def test_every_message_that_matches_is_shown_once_newest_first(
    reader: Connection,
    by_kind: dict[str, list[SmsMessage]],
    filters: Filters,
    kinds: tuple[str, ...],
    limit: int,
) -> None:
    expected = newest_first(*(by_kind[kind] for kind in kinds))
    assert await all_pages(reader, filters, limit=limit) == expected


async def test_a_filter_holds_for_accepted_and_recorded_messages_alike(
    reader: Connection, by_kind: dict[str, list[SmsMessage]]
) -> None:
    everything = [message for kind in by_kind.values() for message in kind]
    expected = newest_first([message for message in everything if message.workflow == "w3"])
    assert await all_pages(reader, Filters(workflow="w3"), limit=5) == expected


async def test_candidates_are_read_until_enough_of_them_match(
    reader: Connection, connection: merge.Connection
) -> None:
    """Delivered messages that still stand in the outbox lie before the pending one."""
    start = utc_now() - timedelta(seconds=100)
    pending = samples.sms(at=start)
    accept(connection, pending, queue="outbox")
    for n in range(1, 40):
        delivered = samples.sms(at=start + timedelta(seconds=n))
        accept(connection, delivered, queue="outbox")
        merge.merge(connection, samples.delivered_life(delivered), {})
    assert await all_pages(reader, Filters(status=Status.PENDING), limit=2) == [pending.id]


async def test_a_message_recorded_for_another_tenant_is_not_shown(
    reader: Connection, connection: merge.Connection
) -> None:
    ours = samples.sms(at=utc_now())
    accept(connection, ours, queue="outbox")
    theirs: Callable[..., SmsMessage] = samples.sms
    other = theirs(at=ours.created_at, tenant="other")
    connection.execute("UPDATE producer.message SET id = %s", (other.id,))
    connection.execute("UPDATE producer.outbox SET message_id = %s", (other.id,))
    merge.merge(connection, samples.delivered_life(other), {})
    assert await all_pages(reader, Filters(), limit=10) == []


async def test_a_message_recorded_while_the_page_is_read_is_shown_as_recorded(
    reader: Connection, connection: merge.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = samples.sms(at=utc_now())
    accept(connection, message, queue="outbox")
    read = messages._recorded_until

    async def record_then_read(reader: Connection) -> UUID:
        merge.merge(connection, samples.delivered_life(message), {})
        return await read(reader)

    monkeypatch.setattr(messages, "_recorded_until", record_then_read)
    page = await messages.find(reader, "acme", Filters(), limit=10)
    assert [(item.id, item.status) for item in page.items] == [(message.id, Status.DELIVERED)]
