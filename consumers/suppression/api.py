"""`/v1/suppressions`: a tenant reads and changes its list. The application mounts `router`."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ConfigDict, Field

from comms.platform.auth import Authenticator, Caller
from comms.platform.problems import unprocessable
from consumers.suppression.recipients import normal, problem_of
from consumers.suppression.store import SuppressedRecipient, SuppressionList
from schemas.errors import Violation
from schemas.vocabulary import Channel, SuppressionReason


class RecipientOfChannel(BaseModel):
    """A recipient of a channel."""

    model_config = ConfigDict(extra="forbid")

    channel: Channel
    recipient: str = Field(description="A number, an address or a token, as in a message's `to`.")

    def normal(self) -> str:
        """Return the recipient in its normal form.

        Raises:
            Problem: it is not a recipient of the channel.
        """
        recipient = normal(self.channel, self.recipient)
        if (problem := problem_of(self.channel, recipient)) is not None:
            raise unprocessable([Violation("recipient", problem)])
        return recipient


class Addition(RecipientOfChannel):
    """A recipient to suppress, and why."""

    reason: SuppressionReason = SuppressionReason.MANUAL


class SuppressionEntry(BaseModel):
    """One recipient on the list."""

    channel: Channel
    recipient: str
    reason: SuppressionReason
    message_id: UUID | None = Field(
        description="The message whose receipt put it on the list, if one did."
    )
    created_at: datetime

    @classmethod
    def of(cls, entry: SuppressedRecipient) -> "SuppressionEntry":
        """Return an entry of the list as it is answered."""
        return cls(
            channel=entry.channel,
            recipient=entry.recipient,
            reason=entry.reason,
            message_id=entry.message_id,
            created_at=entry.created_at,
        )


class SuppressionPage(BaseModel):
    """A part of the list, and where the next part begins."""

    items: list[SuppressionEntry]
    next_cursor: str | None


def router(*, pool: AsyncConnectionPool, authenticator: Authenticator) -> APIRouter:
    """Return the routes, for the application."""
    routes = APIRouter(prefix="/v1/suppressions", tags=["suppressions"])
    suppressions = SuppressionList(pool)
    authenticated = Depends(authenticator)

    @routes.get("", summary="List suppressed recipients")
    async def show(
        caller: Annotated[Caller, authenticated],
        channel: Channel | None = None,
        recipient: str | None = None,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> SuppressionPage:
        after = _position(cursor)
        wanted = normal(channel, recipient) if channel and recipient else recipient
        entries = await suppressions.page(
            caller.tenant, channel=channel, recipient=wanted, after=after, limit=limit + 1
        )
        has_more = len(entries) > limit
        last = entries[limit - 1] if has_more else None
        return SuppressionPage(
            items=[SuppressionEntry.of(entry) for entry in entries[:limit]],
            next_cursor=_cursor(last.channel, last.recipient) if last else None,
        )

    @routes.post("", summary="Suppress a recipient")
    async def add(caller: Annotated[Caller, authenticated], addition: Addition) -> SuppressionEntry:
        return SuppressionEntry.of(
            await suppressions.add(
                caller.tenant, addition.channel, addition.normal(), reason=addition.reason
            )
        )

    @routes.delete(
        "", status_code=204, response_class=Response, summary="Stop suppressing a recipient"
    )
    async def remove(
        caller: Annotated[Caller, authenticated], target: Annotated[RecipientOfChannel, Query()]
    ) -> Response:
        await suppressions.remove(caller.tenant, target.channel, target.normal())
        return Response(status_code=204)

    return routes


def _cursor(channel: str, recipient: str) -> str:
    return urlsafe_b64encode(json.dumps([channel, recipient]).encode()).decode()


def _position(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    try:
        channel, recipient = json.loads(urlsafe_b64decode(cursor))
    except ValueError:
        raise unprocessable([Violation("cursor", "is not a cursor of this API")]) from None
    return str(channel), str(recipient)
