"""The read side of the HTTP API: messages, statistics, readiness, and changes as they happen.

The application mounts `router` beside the producer's routes. Every answer is limited to the
caller's tenant. A wrong parameter is refused as 422 with its name.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse
from psycopg_pool import AsyncConnectionPool
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from audit.feed import Feed
from audit.queries import channels, messages, stats
from audit.queries.changes import Cursor
from audit.queries.messages import Filters
from audit.queries.stats import Dimension
from audit.records import Change, ChannelState, Count, MessageHistory, MessagePage
from comms.platform.auth import Authenticator, Caller
from comms.platform.clock import Clock, utc_now
from comms.platform.database import translate_errors
from comms.platform.problems import Problem, unprocessable
from schemas.errors import Violation
from schemas.vocabulary import Channel, Reason, Status

DAY = timedelta(days=1)


class MessageQuery(BaseModel):
    """The parameters of `GET /v1/messages`."""

    model_config = ConfigDict(extra="forbid")

    customer_id: str | None = None
    recipient: str | None = None
    channel: Channel | None = None
    status: Status | None = None
    reason: Reason | None = None
    provider: str | None = None
    workflow: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = None

    def filters(self) -> Filters:
        """Return the filters, without the paging."""
        return Filters(**self.model_dump(exclude={"limit", "cursor"}))


class StatsQuery(BaseModel):
    """The parameters of `GET /v1/stats`."""

    model_config = ConfigDict(extra="forbid")

    group_by: str = Field(
        "channel,status", description=f"Any of {', '.join(Dimension)}, separated by commas."
    )
    since: AwareDatetime | None = Field(None, description="A day ago by default.")
    until: AwareDatetime | None = Field(None, description="Now by default.")


class Statistics(BaseModel):
    """Counts by group. Each item has a field for each dimension of `group_by`."""

    since: datetime
    until: datetime
    items: list[dict[str, Any]]


class Channels(BaseModel):
    """The state of every channel."""

    items: list[ChannelState]


def router(
    *, pool: AsyncConnectionPool, authenticator: Authenticator, feed: Feed, clock: Clock = utc_now
) -> APIRouter:
    """Return the routes.

    Args:
        pool: open while the routes are served.
        feed: the one of this process.
    """
    routes = APIRouter(prefix="/v1")
    authenticated = Depends(authenticator)
    _register_messages(routes, pool, authenticated)
    _register_operations(routes, pool, authenticated, clock)
    _register_events(routes, feed, authenticated)
    return routes


def _register_messages(routes: APIRouter, pool: AsyncConnectionPool, authenticated: Any) -> None:
    @routes.get("/messages", tags=["messages"], summary="Search messages, newest first")
    async def find(
        query: Annotated[MessageQuery, Query()], caller: Annotated[Caller, authenticated]
    ) -> MessagePage:
        before = before_of(query.cursor)
        with translate_errors():
            async with pool.connection() as connection:
                page = await messages.find(
                    connection, caller.tenant, query.filters(), limit=query.limit, before=before
                )
        return replace(page, next_cursor=cursor_of(page.next_cursor))

    @routes.get("/messages/{message_id}", tags=["messages"], summary="One message and its events")
    async def get(message_id: UUID, caller: Annotated[Caller, authenticated]) -> MessageHistory:
        with translate_errors():
            async with pool.connection() as connection:
                message = await messages.get(connection, caller.tenant, message_id)
        if message is None:
            raise Problem(404, "Not Found", "There is no such message")
        return message


def _register_operations(
    routes: APIRouter, pool: AsyncConnectionPool, authenticated: Any, clock: Clock
) -> None:
    @routes.get("/stats", tags=["operations"], summary="Counts and latencies")
    async def statistics(
        query: Annotated[StatsQuery, Query()], caller: Annotated[Caller, authenticated]
    ) -> Statistics:
        group_by = dimensions_of(query.group_by)
        until = query.until or clock()
        since = query.since or until - DAY
        with translate_errors():
            async with pool.connection() as connection:
                counts = await stats.counts(
                    connection, caller.tenant, group_by, since=since, until=until
                )
        return Statistics(since=since, until=until, items=[_item(count) for count in counts])

    @routes.get("/channels", tags=["operations"], summary="Whether messages get out")
    async def readiness(caller: Annotated[Caller, authenticated]) -> Channels:
        with translate_errors():
            async with pool.connection() as connection:
                return Channels(items=list(await channels.states(connection, caller.tenant)))


def _register_events(routes: APIRouter, feed: Feed, authenticated: Any) -> None:
    @routes.get(
        "/events",
        tags=["messages"],
        summary="Status changes as they happen",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def follow(
        caller: Annotated[Caller, authenticated],
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        after = Cursor.parse(last_event_id) if last_event_id else None
        return StreamingResponse(
            _stream(feed, caller.tenant, after),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def cursor_of(last_id: str | None) -> str | None:
    """Return the cursor that continues after an id; None for None."""
    return urlsafe_b64encode(UUID(last_id).bytes).decode().rstrip("=") if last_id else None


def before_of(cursor: str | None) -> UUID | None:
    """Return the id in a cursor.

    Raises:
        Problem: it is not a cursor of this API.
    """
    if cursor is None:
        return None
    try:
        return UUID(bytes=urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        violation = Violation("cursor", "must be the next_cursor of an earlier answer")
        raise unprocessable([violation]) from None


def dimensions_of(names: str) -> tuple[Dimension, ...]:
    """Parse the dimensions to group by.

    Raises:
        Problem: a name is not one of the dimensions.
    """
    try:
        dimensions = [Dimension(name.strip()) for name in names.split(",") if name.strip()]
    except ValueError:
        problem = f"must be any of {', '.join(Dimension)}, separated by commas"
        raise unprocessable([Violation("group_by", problem)]) from None
    return tuple(dict.fromkeys(dimensions))


def _item(count: Count) -> dict[str, Any]:
    latency = count.latency_ms
    percentiles = {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99} if latency else None
    return {**count.group, "count": count.count, "latency_ms": percentiles}


async def _stream(feed: Feed, tenant: str, after: Cursor | None) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    async for change in feed.follow(tenant, after=after):
        yield ": still here\n\n" if change is None else as_event(change)


def as_event(change: Change) -> str:
    """Return a change as a server-sent event."""
    data = {
        "id": str(change.id),
        "message_id": str(change.message_id),
        "channel": change.channel,
        "status": change.status,
        "reason": change.reason,
        "attempt": change.attempt,
        "provider": change.provider,
        "occurred_at": _instant(change.occurred_at),
        "recorded_at": _instant(change.recorded_at),
    }
    return f"id: {change.cursor}\nevent: status\ndata: {json.dumps(data)}\n\n"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
