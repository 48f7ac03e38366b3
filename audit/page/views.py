"""Loads the data of each page from the queries of the audit service.

The routes of the page call these functions with an open connection, and pass the result to a
template.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from audit.api import MessageQuery
from audit.queries import channels, messages
from audit.queries.messages import Filters
from audit.records import Backlog, ChannelState, Message, MessageHistory, MessagePage
from schemas.vocabulary import Status

Connection = AsyncConnection[TupleRow]

LATEST_MESSAGES = 20

# The order of the statuses in the bar: the order of the lifecycle.
STATUS_ORDER = (
    Status.PENDING,
    Status.SENDING,
    Status.SENT,
    Status.DELIVERED,
    Status.UNKNOWN,
    Status.FAILED,
    Status.CANCELLED,
)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one status in the bar; `start` and `width` are in thousandths of the bar."""

    status: Status
    count: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The data of the overview."""

    backlog: Backlog
    channels: tuple[ChannelState, ...]
    shares: tuple[Share, ...]
    total: int
    latest: tuple[Message, ...]


async def load_overview(connection: Connection, tenant: str) -> Overview:
    """Return the data of a tenant's overview."""
    states = await channels.states(connection, tenant)
    counts: dict[str, int] = {}
    for state in states:
        for status, count in state.counts.items():
            counts[status] = counts.get(status, 0) + count
    latest = await messages.find(connection, tenant, Filters(), limit=LATEST_MESSAGES)
    backlog = await channels.backlog(connection, tenant)
    # Messages in the outbox are pending even if their event is not stored yet.
    counts[Status.PENDING] = max(counts.get(Status.PENDING, 0), backlog.pending)
    return Overview(
        backlog=backlog,
        channels=states,
        shares=compute_shares(counts),
        total=sum(counts.values()),
        latest=latest.items,
    )


async def find_messages(
    connection: Connection, tenant: str, query: MessageQuery, *, before: UUID | None
) -> MessagePage:
    """Return one page of search results, from the message before `before` on."""
    return await messages.find(
        connection, tenant, query.filters(), limit=query.limit, before=before
    )


async def load_message(
    connection: Connection, tenant: str, message_id: UUID
) -> MessageHistory | None:
    """Return a message with its events; None if the tenant has no such message."""
    return await messages.get(connection, tenant, message_id)


def compute_shares(counts: Mapping[str, int]) -> tuple[Share, ...]:
    """Return the share of every status in the bar, also of those without messages."""
    total = sum(counts.values()) or 1
    start = 0.0
    shares = []
    for status in STATUS_ORDER:
        count = counts.get(status, 0)
        width = 1000 * count / total
        shares.append(Share(status, count, round(start, 1), round(width, 1)))
        start += width
    return tuple(shares)
