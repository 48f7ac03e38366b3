"""What each page shows, gathered from the queries in one go."""

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

LATEST = 20

# In the order of a message's life.
ORDER = (
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
    """A part of the lifecycle's bar; `start` and `width` in thousandths of it."""

    status: Status
    count: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The front page."""

    backlog: Backlog
    channels: tuple[ChannelState, ...]
    shares: tuple[Share, ...]
    total: int
    latest: tuple[Message, ...]


async def overview(connection: Connection, tenant: str) -> Overview:
    """The front page of a tenant."""
    states = await channels.states(connection, tenant)
    counts: dict[str, int] = {}
    for state in states:
        for status, count in state.counts.items():
            counts[status] = counts.get(status, 0) + count
    latest = await messages.find(connection, tenant, Filters(), limit=LATEST)
    backlog = await channels.backlog(connection, tenant)
    # What waits in the outbox is pending, whether or not an event has said so yet.
    counts[Status.PENDING] = max(counts.get(Status.PENDING, 0), backlog.pending)
    return Overview(
        backlog=backlog,
        channels=states,
        shares=shares_of(counts),
        total=sum(counts.values()),
        latest=latest.items,
    )


async def search(
    connection: Connection, tenant: str, query: MessageQuery, before: UUID | None
) -> MessagePage:
    """A page of search results."""
    return await messages.find(
        connection, tenant, query.filters(), limit=query.limit, before=before
    )


async def message(connection: Connection, tenant: str, message_id: UUID) -> MessageHistory | None:
    """One message with its timeline."""
    return await messages.get(connection, tenant, message_id)


def shares_of(counts: Mapping[str, int]) -> tuple[Share, ...]:
    """Each status's part of the bar, none left out."""
    total = sum(counts.values()) or 1
    start = 0.0
    found = []
    for status in ORDER:
        width = 1000 * counts.get(status, 0) / total
        found.append(Share(status, counts.get(status, 0), round(start, 1), round(width, 1)))
        start += width
    return tuple(found)
