"""`resend`, `resolve` and `/v1/resends`: what an operator does about messages, over HTTP.

The application mounts `router`. A resend is requested with a nonce: the same nonce again is the
same attempt, another nonce is another attempt. `/v1/resends` requests a resend of all messages that
a filter matches, a page at a time. Each message's nonce is derived from the id of the run, so that
a page or a whole run that is repeated sends nothing twice.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, Response
from psycopg_pool import AsyncConnectionPool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from comms.platform.auth import Authenticator, Caller
from comms.platform.clock import Clock, utc_now
from comms.platform.kafka import EventProducer, KafkaFault
from comms.platform.problems import Problem, unprocessable
from consumers.ledger.delivery import RETRY_NONCE
from consumers.redrive.requests import REFUSALS, ResendAnswer, ResendRequests
from consumers.redrive.resolving import (
    NoSuchMessageError,
    NotUnknownError,
    Resolution,
    Resolver,
)
from consumers.redrive.selection import MatchCount, MatchingMessage, Selection
from consumers.redrive.where import Condition, FilterError, parse
from schemas.codec import Codec
from schemas.errors import Violation
from schemas.vocabulary import Reason, Status

PREVIEW_SIZE = 5  # messages that a dry run shows
MAX_PAGE_SIZE = 200


def _check_not_ordinary(nonce: UUID | None) -> UUID | None:
    """Refuse the nonce of the ordinary retry."""
    if nonce == RETRY_NONCE:
        raise ValueError("must not be the UUID of zeros")
    return nonce


class ResendBody(BaseModel):
    """The body of a resend."""

    model_config = ConfigDict(extra="forbid")

    nonce: UUID | None = Field(
        None, description="The same again is the same attempt. Without it every call is a new one."
    )

    _check_nonce = field_validator("nonce")(_check_not_ordinary)


class ResolveBody(BaseModel):
    """The body of a resolution."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    resolution: Resolution = Field(alias="as")


class ResendRun(BaseModel):
    """Which messages are to be sent again."""

    model_config = ConfigDict(extra="forbid")

    run_id: UUID | None = Field(
        None,
        validation_alias=AliasChoices("run_id", "nonce"),
        description="The run's own UUID. The same again sends nothing twice. `nonce` is an older"
        " name of it.",
    )
    where: str = Field(
        description="Such as: status = 'failed' and reason = 'provider_error' and"
        " created_at > '2026-01-31'"
    )
    dry_run: bool = Field(False, description="Only show what would be sent again.")
    limit: int = Field(100, ge=1, le=MAX_PAGE_SIZE)
    cursor: str | None = Field(None, description="The next_cursor of the page before.")

    _check_run_id = field_validator("run_id")(_check_not_ordinary)

    def condition(self) -> Condition:
        """Parse the filter.

        Raises:
            Problem: it is wrong; the problem names the place in it.
        """
        try:
            return parse(self.where)
        except FilterError as error:
            raise unprocessable([Violation("where", str(error))]) from error


class ResendPreview(BaseModel):
    """What a filter matches: how many messages, their statuses, and the newest few."""

    count: int
    groups: list[MatchCount]
    first: list[MatchingMessage]


class ResendResult(BaseModel):
    """One message of a run; `problem` says why it is not sent again."""

    id: UUID
    result: ResendAnswer
    problem: str | None = None


class ResendPage(BaseModel):
    """A page of a run, newest first. `nonce` is an older name of `run_id`."""

    run_id: UUID
    nonce: UUID
    items: list[ResendResult]
    next_cursor: str | None


def router(
    *,
    pool: AsyncConnectionPool,
    producer: EventProducer,
    codec: Codec,
    authenticator: Authenticator,
    clock: Clock = utc_now,
) -> APIRouter:
    """Return the routes, for the application."""
    routes = APIRouter(prefix="/v1", tags=["redrive"])
    live_caller = Depends(authenticator.require_live)
    _register_resend(routes, ResendRequests(pool), live_caller)
    _register_resolve(routes, Resolver(pool, producer, codec, clock), live_caller)
    _register_resends(routes, ResendRequests(pool), Selection(pool), live_caller)
    return routes


def _register_resend(routes: APIRouter, requests: ResendRequests, live_caller: Any) -> None:
    @routes.post(
        "/messages/{message_id}/resend",
        status_code=202,
        summary="Another attempt of a message that has ended",
        responses=_answers(
            {
                200: "The same nonce again: that attempt is already requested",
                404: "There is no such message",
                409: "It is on its way, cancelled or expired, or its contents are not kept",
            }
        ),
    )
    async def resend(
        message_id: UUID,
        caller: Annotated[Caller, live_caller],
        response: Response,
        body: ResendBody | None = None,
    ) -> dict[str, Any]:
        nonce = (body.nonce if body else None) or uuid4()
        answer = (await requests.request(caller.tenant, {message_id: nonce}))[message_id]
        if answer is ResendAnswer.NO_SUCH:
            raise Problem(404, "Not Found", REFUSALS[answer])
        if answer in REFUSALS:
            raise Problem(409, "Conflict", REFUSALS[answer])
        if answer is ResendAnswer.KNOWN:
            response.status_code = 200
        return {"id": message_id, "nonce": nonce, "result": answer}


def _register_resolve(routes: APIRouter, resolver: Resolver, live_caller: Any) -> None:
    @routes.post(
        "/messages/{message_id}/resolve",
        summary="Settle a message that is unknown",
        responses=_answers(
            {
                404: "There is no such message",
                409: "It is not unknown, or cannot be settled so",
                503: "It is settled, and its event is not published yet; repeat the request",
            }
        ),
    )
    async def resolve(
        message_id: UUID, body: ResolveBody, caller: Annotated[Caller, live_caller]
    ) -> dict[str, Any]:
        try:
            status = await resolver.resolve(caller, message_id, body.resolution)
        except NoSuchMessageError:
            raise Problem(404, "Not Found", REFUSALS[ResendAnswer.NO_SUCH]) from None
        except NotUnknownError as error:
            raise Problem(409, "Conflict", str(error)) from None
        except KafkaFault as fault:
            detail = "It is settled, and its event is not published yet; repeat the request"
            headers = {"Retry-After": "5"}
            raise Problem(503, "Service unavailable", detail, headers=headers) from fault
        reason = Reason.RESENT if status is Status.SENDING else Reason.RESOLVED
        return {"id": message_id, "status": status, "reason": reason}


def _register_resends(
    routes: APIRouter, requests: ResendRequests, selection: Selection, live_caller: Any
) -> None:
    @routes.post(
        "/resends",
        summary="Another attempt of every message that a filter matches",
        description="A page at a time, by `cursor`, or with `dry_run` what would be sent again.",
        responses=_answers({422: "The filter is wrong; `errors` names the place in it"}),
    )
    async def resend_all(
        body: ResendRun, caller: Annotated[Caller, live_caller]
    ) -> ResendPreview | ResendPage:
        condition, before = body.condition(), _last_id(body.cursor)
        if body.dry_run:
            groups = await selection.count(caller.tenant, condition)
            first = await selection.page(caller.tenant, condition, limit=PREVIEW_SIZE)
            return ResendPreview(count=sum(g.count for g in groups), groups=groups, first=first)
        if body.run_id is None:
            raise unprocessable([Violation("run_id", "is needed to send: a UUID of the run's own")])
        page = await selection.page(caller.tenant, condition, limit=body.limit, before=before)
        nonces = {message.id: uuid5(body.run_id, str(message.id)) for message in page}
        answers = await requests.request(caller.tenant, nonces) if nonces else {}
        is_full = len(page) == body.limit
        return ResendPage(
            run_id=body.run_id,
            nonce=body.run_id,
            items=[_result(message_id, answers[message_id]) for message_id in nonces],
            next_cursor=_cursor(page[-1].id) if is_full else None,
        )


def _result(message_id: UUID, answer: ResendAnswer) -> ResendResult:
    return ResendResult(id=message_id, result=answer, problem=REFUSALS.get(answer))


def _answers(by_status: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text} for status, text in by_status.items()}


def _cursor(last_id: UUID) -> str:
    return urlsafe_b64encode(last_id.bytes).decode().rstrip("=")


def _last_id(cursor: str | None) -> UUID | None:
    """Return the id in a cursor.

    Raises:
        Problem: it is no cursor of ours.
    """
    if cursor is None:
        return None
    try:
        return UUID(bytes=urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        raise unprocessable([Violation("cursor", "is not a cursor of this API")]) from None
