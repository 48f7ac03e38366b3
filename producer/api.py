"""The HTTP API that accepts messages: post one, post a batch, cancel one.

`comms.app` includes the routes that `router` returns. A route reads the body (`producer.bodies`),
makes entries of it (`producer.entries`) and writes them to the outbox (`producer.batcher`). The
status 202 means that the transaction has committed, so that the message cannot be lost.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from psycopg_pool import AsyncConnectionPool

from comms.platform.auth import Authenticator, Caller
from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseUnavailableError
from comms.platform.limits import TenantLimits
from comms.platform.problems import Problem, unprocessable
from producer import responses
from producer.admission import TenantLimiter
from producer.batcher import Batcher
from producer.bodies import BATCH_LIMIT, SINGLE_LIMIT, read_json
from producer.cancelling import NoSuchMessageError, TooLateError, cancel
from producer.entries import prepare_entry, prepare_entry_or_problem, to_context
from producer.openapi import accepted_example, batch_body, batch_example, single_body
from producer.outbox import Outbox
from producer.statements import Entry, KeyConflict
from schemas.codec import Codec
from schemas.errors import Violation
from schemas.rules import NO_POLICIES, Policies
from schemas.vocabulary import Reason, Status

BATCH_SIZE_LIMIT = 1000  # messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The objects that the routes use."""

    pool: AsyncConnectionPool
    codec: Codec
    clock: Clock
    caller: Any  # FastAPI's dependency that authenticates the caller
    outbox: Outbox
    batcher: Batcher
    admission: TenantLimiter


def router(
    *,
    pool: AsyncConnectionPool,
    codec: Codec,
    authenticator: Authenticator,
    admission: TenantLimiter | None = None,
    policies: Policies = NO_POLICIES,
    clock: Clock = utc_now,
) -> APIRouter:
    """Return the routes of the API.

    Args:
        pool: must be open while the routes are served.
        admission: the rate limits of the tenants. Without it there are no limits.
    """
    routes = APIRouter(prefix="/v1", tags=["messages"])
    outbox = Outbox(codec, clock, policies)
    dependencies = Dependencies(
        pool=pool,
        codec=codec,
        clock=clock,
        caller=Depends(authenticator),
        outbox=outbox,
        batcher=Batcher(pool, outbox),
        admission=admission or TenantLimiter(pool, TenantLimits()),
    )
    for register in (register_post, register_batch, register_cancel):
        register(routes, dependencies)
    return routes


def register_post(routes: APIRouter, dependencies: Dependencies) -> None:
    """Add `POST /v1/messages`."""

    @routes.post(
        "/messages",
        status_code=202,
        summary="Send one message",
        description="For a text message, `segments` in the response has the number of segments that"
        " networks count. Use `validate=true` to get it without sending.",
        openapi_extra=single_body(),
        responses=_documented_responses(
            accepted_example(),
            {
                200: "The same key and body were posted before: the original message, with"
                " `Idempotent-Replayed: true`. With `validate=true`: the message is valid",
                409: "The idempotency key was used with another body",
                413: "The body or its attachments are too large",
                422: "A field is wrong; `errors` names it",
                429: "The tenant is over its rate limit; try again after `Retry-After` seconds",
                503: "The database does not respond",
            },
        ),
    )
    async def post(
        request: Request,
        caller: Annotated[Caller, dependencies.caller],
        idempotency_key: Annotated[str | None, Header()] = None,
        traceparent: Annotated[str | None, Header()] = None,
        validate: Annotated[
            bool, Query(description="Check the message and report errors; send nothing.")
        ] = False,
    ) -> Response:
        await dependencies.admission.admit(caller.tenant, 1)
        document = await read_json(request, limit=SINGLE_LIMIT)
        context = to_context(caller, traceparent, header_key=idempotency_key)
        entry = prepare_entry(dependencies.outbox, document, context, dependencies.clock)
        if validate:
            return JSONResponse(responses.valid_response(entry))
        with database_errors_as_503():
            result = await dependencies.batcher.write(entry)
        if isinstance(result, KeyConflict):
            raise responses.conflict_problem(result)
        headers = {"Location": f"/v1/messages/{result.id}"}
        if result.replayed:
            headers["Idempotent-Replayed"] = "true"
        status = 200 if result.replayed else 202
        return JSONResponse(responses.accepted_response(result, entry), status, headers=headers)


def register_batch(routes: APIRouter, dependencies: Dependencies) -> None:
    """Add `POST /v1/messages/batch`."""

    @routes.post(
        "/messages/batch",
        status_code=202,
        summary=f"Send up to {BATCH_SIZE_LIMIT} messages; the response has a result for each",
        openapi_extra=batch_body(BATCH_SIZE_LIMIT),
        responses=_documented_responses(
            batch_example(),
            {
                413: "The body is too large",
                422: "The body is not a list of messages",
                429: "The tenant is over its rate limit; no message of the batch was accepted",
                503: "The database does not respond; no message of the batch was accepted",
            },
        ),
    )
    async def post_batch(
        request: Request,
        caller: Annotated[Caller, dependencies.caller],
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        documents = _parse_batch(await read_json(request, limit=BATCH_LIMIT))
        await dependencies.admission.admit(caller.tenant, len(documents))
        context = to_context(caller, traceparent)
        prepared = await asyncio.to_thread(
            lambda: [
                prepare_entry_or_problem(dependencies.outbox, item, context, dependencies.clock)
                for item in documents
            ]
        )
        entries = [item for item in prepared if isinstance(item, Entry)]
        with database_errors_as_503():
            written = await dependencies.batcher.write_many(entries)
        results = iter(written)
        items = [
            responses.batch_item(next(results), item)
            if isinstance(item, Entry)
            else {"error": item.body()}
            for item in prepared
        ]
        return JSONResponse({"results": items}, 202)


def register_cancel(routes: APIRouter, dependencies: Dependencies) -> None:
    """Add `POST /v1/messages/{message_id}/cancel`."""

    @routes.post(
        "/messages/{message_id}/cancel",
        summary="Cancel a message before it is sent",
        description="A message that waits for another attempt can be cancelled too, if no earlier"
        " attempt may have sent it.",
        responses=_documented_responses(
            None,
            {
                404: "There is no such message",
                409: "The message was sent, may have been sent, is being sent, or has ended",
            },
        ),
    )
    async def cancel_message(
        message_id: UUID, caller: Annotated[Caller, dependencies.caller]
    ) -> dict[str, Any]:
        now = dependencies.clock()
        try:
            header, attempts = await cancel(
                dependencies.pool,
                dependencies.codec,
                tenant=caller.tenant,
                message_id=message_id,
                at=now,
            )
        except NoSuchMessageError:
            raise Problem(404, "Not Found", "There is no such message") from None
        except TooLateError:
            detail = (
                "The message can no longer be cancelled: it was sent, may have been sent, is being"
                " sent, or has ended"
            )
            raise Problem(409, "Conflict", detail) from None
        return responses.to_response(
            header,
            status=Status.CANCELLED,
            reason=Reason.CANCELLED,
            attempts=attempts,
            finished_at=now,
        )


def _documented_responses(
    accepted: dict[str, Any] | None, others: Mapping[int, str]
) -> dict[int | str, dict[str, Any]]:
    documented: dict[int | str, dict[str, Any]] = {} if accepted is None else {202: accepted}
    return documented | {status: {"description": text} for status, text in others.items()}


@contextmanager
def database_errors_as_503() -> Iterator[None]:
    """Turn a lost database into the status 503.

    If the database is lost during the commit, the message may have been accepted. The idempotency
    key makes it safe to send it again.
    """
    try:
        yield
    except DatabaseUnavailableError as error:
        raise Problem(
            503,
            "Service unavailable",
            "The database does not respond; send the request again with the same idempotency key",
            headers={"Retry-After": "1"},
        ) from error


def _parse_batch(document: object) -> list[object]:
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list):
        raise unprocessable([Violation("messages", "must be a list of messages")])
    if not 1 <= len(messages) <= BATCH_SIZE_LIMIT:
        raise unprocessable([Violation("messages", f"must have 1 to {BATCH_SIZE_LIMIT} messages")])
    return messages
