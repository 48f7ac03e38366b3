"""`/v1/suppressions`: a tenant looks at its list of those not to be reached, and changes it."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ConfigDict, Field

from comms.platform.auth import Authenticator, Caller
from comms.platform.problems import invalid
from consumers.suppression.recipients import normal, problem_of
from consumers.suppression.store import Suppressed, SuppressionList
from schemas.errors import Violation
from schemas.vocabulary import Channel, SuppressionReason


class Named(BaseModel):
    """A recipient of a channel."""

    model_config = ConfigDict(extra="forbid")

    channel: Channel
    recipient: str = Field(description="A number, an address or a token, as in a message's `to`.")

    def normal(self) -> str:
        """Its normal form.

        Raises:
            Problem: it is no recipient of the channel.
        """
        found = normal(self.channel, self.recipient)
        if (problem := problem_of(self.channel, found)) is not None:
            raise invalid([Violation("recipient", problem)])
        return found


class Addition(Named):
    """A recipient to be left alone, and why."""

    reason: SuppressionReason = SuppressionReason.MANUAL


class Entry(BaseModel):
    """One recipient on the list."""

    channel: Channel
    recipient: str
    reason: SuppressionReason
    message_id: UUID | None = Field(description="The message whose receipt brought it here.")
    created_at: datetime

    @classmethod
    def of(cls, found: Suppressed) -> "Entry":
        """As answered."""
        return cls(
            channel=found.channel,
            recipient=found.recipient,
            reason=found.reason,
            message_id=found.message_id,
            created_at=found.created_at,
        )


class Page(BaseModel):
    """Some of the list, and where the next part begins."""

    items: list[Entry]
    next_cursor: str | None


def router(*, pool: AsyncConnectionPool, authenticator: Authenticator) -> APIRouter:
    """The routes, for the application."""
    routes = APIRouter(prefix="/v1/suppressions", tags=["suppressions"])
    suppressed = SuppressionList(pool)
    caller = Depends(authenticator)

    @routes.get("", summary="Recipients that are not reached")
    async def show(
        who: Annotated[Caller, caller],
        channel: Channel | None = None,
        recipient: str | None = None,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Page:
        after = _place(cursor)
        sought = normal(channel, recipient) if channel and recipient else recipient
        found = await suppressed.page(
            who.tenant, channel=channel, recipient=sought, after=after, limit=limit + 1
        )
        more = len(found) > limit
        last = found[limit - 1] if more else None
        return Page(
            items=[Entry.of(entry) for entry in found[:limit]],
            next_cursor=_cursor(last.channel, last.recipient) if last else None,
        )

    @routes.post("", summary="Reach a recipient no more")
    async def add(who: Annotated[Caller, caller], addition: Addition) -> Entry:
        return Entry.of(
            await suppressed.add(
                who.tenant, addition.channel, addition.normal(), reason=addition.reason
            )
        )

    @routes.delete("", status_code=204, response_class=Response, summary="Reach one again")
    async def remove(who: Annotated[Caller, caller], named: Annotated[Named, Query()]) -> Response:
        await suppressed.remove(who.tenant, named.channel, named.normal())
        return Response(status_code=204)

    return routes


def _cursor(channel: str, recipient: str) -> str:
    return urlsafe_b64encode(json.dumps([channel, recipient]).encode()).decode()


def _place(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    try:
        channel, recipient = json.loads(urlsafe_b64decode(cursor))
    except ValueError:
        raise invalid([Violation("cursor", "is not one that was given")]) from None
    return str(channel), str(recipient)
