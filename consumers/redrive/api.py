"""`resend`, `resolve` and `/v1/resends`: what a person does about messages, over HTTP.

A resend is asked for with a nonce: the same one again is the same attempt, another one is another.
`/v1/resends` asks for all that a filter finds, a page at a time; each message's nonce is made of
the run's, so that a page asked for again, or a whole run, sends nothing twice.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, Response
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ConfigDict, Field, field_validator

from comms.platform.auth import Authenticator, Caller
from comms.platform.clock import Clock, utc_now
from comms.platform.kafka import EventProducer, KafkaFault
from comms.platform.problems import Problem, invalid
from consumers.ledger.delivery import ORDINARY
from consumers.redrive.requests import REFUSALS, Answer, ResendRequests
from consumers.redrive.resolving import (
    NoSuchMessageError,
    NotUnknownError,
    Resolution,
    Resolver,
)
from consumers.redrive.selection import Found, Group, Selection
from consumers.redrive.where import Condition, FilterError, parse
from schemas.codec import Codec
from schemas.errors import Violation
from schemas.vocabulary import Reason, Status

SHOWN = 5  # messages that a dry run shows
MOST = 200  # messages of one page


class _Wish(BaseModel):
    """What tells one wish from another."""

    model_config = ConfigDict(extra="forbid")

    nonce: UUID | None = Field(
        None, description="The same again is the same attempt. Without it every call is a new one."
    )

    @field_validator("nonce")
    @classmethod
    def _is_a_wish(cls, nonce: UUID | None) -> UUID | None:
        if nonce == ORDINARY:
            raise ValueError("must not be the UUID of zeros")
        return nonce


class Resend(_Wish):
    """The body of a resend."""


class Resolve(BaseModel):
    """The body of a resolution."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    resolution: Resolution = Field(alias="as")


class Resends(_Wish):
    """Which messages are to be sent again."""

    where: str = Field(
        description="Such as: status = 'failed' and reason = 'provider_error' and"
        " created_at > '2026-01-31'"
    )
    dry_run: bool = Field(False, description="Only tell what would be sent again.")
    limit: int = Field(100, ge=1, le=MOST)
    cursor: str | None = Field(None, description="The next_cursor of the page before.")

    def condition(self) -> Condition:
        """The filter.

        Raises:
            Problem: it is none; the problem names the place in it.
        """
        try:
            return parse(self.where)
        except FilterError as error:
            raise invalid([Violation("where", str(error))]) from error


class Preview(BaseModel):
    """What a filter finds: how many, how they stand, and the newest few."""

    count: int
    groups: list[Group]
    first: list[Found]


class Asked(BaseModel):
    """One message of a run; `problem` says why where it is not sent again."""

    id: UUID
    result: Answer
    problem: str | None = None


class AskedPage(BaseModel):
    """A page of a run, newest first."""

    nonce: UUID
    items: list[Asked]
    next_cursor: str | None


def router(
    *,
    pool: AsyncConnectionPool,
    producer: EventProducer,
    codec: Codec,
    authenticator: Authenticator,
    clock: Clock = utc_now,
) -> APIRouter:
    """The routes, for the application."""
    routes = APIRouter(prefix="/v1", tags=["redrive"])
    caller = Depends(authenticator.live)
    _offer_resend(routes, ResendRequests(pool), caller)
    _offer_resolve(routes, Resolver(pool, producer, codec, clock), caller)
    _offer_resends(routes, ResendRequests(pool), Selection(pool), caller)
    return routes


def _offer_resend(routes: APIRouter, wishes: ResendRequests, caller: Any) -> None:
    @routes.post(
        "/messages/{message_id}/resend",
        status_code=202,
        summary="Another attempt of a message that has ended",
        responses=_answers(
            {
                200: "The same nonce again: that attempt is asked for already",
                404: "There is no such message",
                409: "It is on its way, cancelled or expired, or its contents are not kept",
            }
        ),
    )
    async def resend(
        message_id: UUID,
        who: Annotated[Caller, caller],
        response: Response,
        body: Resend | None = None,
    ) -> dict[str, Any]:
        nonce = (body.nonce if body else None) or uuid4()
        answer = (await wishes.ask(who.tenant, {message_id: nonce}))[message_id]
        if answer is Answer.NO_SUCH:
            raise Problem(404, "Not Found", REFUSALS[answer])
        if answer in REFUSALS:
            raise Problem(409, "Conflict", REFUSALS[answer])
        if answer is Answer.KNOWN:
            response.status_code = 200
        return {"id": message_id, "nonce": nonce, "result": answer}


def _offer_resolve(routes: APIRouter, resolver: Resolver, caller: Any) -> None:
    @routes.post(
        "/messages/{message_id}/resolve",
        summary="Settle a message that is unknown",
        responses=_answers(
            {
                404: "There is no such message",
                409: "It is not unknown, or cannot be settled so",
                503: "Settled, and not announced yet; ask again",
            }
        ),
    )
    async def resolve(
        message_id: UUID, body: Resolve, who: Annotated[Caller, caller]
    ) -> dict[str, Any]:
        try:
            status = await resolver.resolve(who, message_id, body.resolution)
        except NoSuchMessageError:
            raise Problem(404, "Not Found", REFUSALS[Answer.NO_SUCH]) from None
        except NotUnknownError as error:
            raise Problem(409, "Conflict", str(error)) from None
        except KafkaFault as fault:
            detail = "It is settled, and not announced yet; ask again"
            headers = {"Retry-After": "5"}
            raise Problem(503, "Service unavailable", detail, headers=headers) from fault
        reason = Reason.RESENT if status is Status.SENDING else Reason.RESOLVED
        return {"id": message_id, "status": status, "reason": reason}


def _offer_resends(
    routes: APIRouter, wishes: ResendRequests, selection: Selection, caller: Any
) -> None:
    @routes.post(
        "/resends",
        summary="Another attempt of every message that a filter finds",
        description="A page at a time, by `cursor`, or with `dry_run` what would be sent again.",
        responses=_answers({422: "The filter is wrong; `errors` names the place in it"}),
    )
    async def resend_all(body: Resends, who: Annotated[Caller, caller]) -> Preview | AskedPage:
        condition, before = body.condition(), _place(body.cursor)
        if body.dry_run:
            groups = await selection.groups(who.tenant, condition)
            first = await selection.page(who.tenant, condition, limit=SHOWN)
            return Preview(count=sum(g.count for g in groups), groups=groups, first=first)
        if body.nonce is None:
            raise invalid([Violation("nonce", "is needed to send: a run's own UUID")])
        found = await selection.page(who.tenant, condition, limit=body.limit, before=before)
        nonces = {message.id: uuid5(body.nonce, str(message.id)) for message in found}
        answers = await wishes.ask(who.tenant, nonces) if nonces else {}
        items = [Asked(id=i, result=answers[i], problem=REFUSALS.get(answers[i])) for i in nonces]
        more = len(found) == body.limit
        return AskedPage(
            nonce=body.nonce, items=items, next_cursor=_cursor(found[-1].id) if more else None
        )


def _answers(by_status: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text} for status, text in by_status.items()}


def _cursor(last: UUID) -> str:
    return urlsafe_b64encode(last.bytes).decode().rstrip("=")


def _place(cursor: str | None) -> UUID | None:
    if cursor is None:
        return None
    try:
        return UUID(bytes=urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        raise invalid([Violation("cursor", "is not one that was given")]) from None
