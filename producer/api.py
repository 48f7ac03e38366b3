"""The front door over HTTP: post a message, post many, cancel one.

`comms.app` mounts `router`. A request's body becomes a message (`producer.requests`,
`producer.building`), is held against the rules, and is written to the outbox; 202 means that the
transaction has committed and the message will not be lost.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from psycopg_pool import AsyncConnectionPool

from comms.platform.auth import Authenticator, Caller
from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseUnavailableError
from comms.platform.limits import TenantLimits
from comms.platform.problems import Problem, invalid
from producer import requests
from producer.admission import Admission
from producer.batcher import Batcher
from producer.bodies import BATCH_LIMIT, SINGLE_LIMIT, read_json
from producer.building import Stamp, to_message
from producer.cancelling import NoSuchMessageError, TooLateError, cancel
from producer.openapi import accepted_answer, batch_answer, batch_body, single_body
from producer.outbox import Outbox
from producer.responses import segment_summary, to_response
from producer.statements import Accepted, Conflict, Entry, Result
from schemas.codec import Codec
from schemas.errors import InvalidRecordError, Violation
from schemas.ids import new_message_id
from schemas.rules import ATTACHMENTS_LIMIT, NO_POLICIES, Policies
from schemas.vocabulary import Mode, Reason, Status

MOST_IN_A_BATCH = 1000

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Who asks, and in which trace."""

    tenant: str
    traceparent: str | None
    for_tests: bool
    header_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What the routes work with."""

    pool: AsyncConnectionPool
    codec: Codec
    clock: Clock
    caller: Any  # the dependency, in FastAPI's terms
    outbox: Outbox
    batcher: Batcher
    admission: Admission


def router(
    *,
    pool: AsyncConnectionPool,
    codec: Codec,
    authenticator: Authenticator,
    admission: Admission | None = None,
    policies: Policies = NO_POLICIES,
    clock: Clock = utc_now,
) -> APIRouter:
    """The routes; `pool` is open while they are served. Without `admission` nobody is limited."""
    routes = APIRouter(prefix="/v1", tags=["messages"])
    outbox = Outbox(codec, clock, policies)
    door = Dependencies(
        pool=pool,
        codec=codec,
        clock=clock,
        caller=Depends(authenticator),
        outbox=outbox,
        batcher=Batcher(pool, outbox),
        admission=admission or Admission(pool, TenantLimits()),
    )
    for offer in (register_post, _offer_batch, _offer_cancel):
        offer(routes, door)
    return routes


def register_post(routes: APIRouter, door: Dependencies) -> None:
    @routes.post(
        "/messages",
        status_code=202,
        summary="Send one message",
        description="A text message's answer says in `segments` what networks will count of it. To"
        " know it before anything is sent, ask with `validate=true`.",
        openapi_extra=single_body(),
        responses=_answers(
            accepted_answer(),
            {
                200: "The same key and body again: the original, with `Idempotent-Replayed: true`."
                " Or nothing is wrong, where that was all you asked",
                409: "The idempotency key was used with another body",
                413: "The body or its attachments are too large",
                422: "A field is wrong; `errors` names it",
                429: "Over the tenant's rate limit; `Retry-After` says when to come again",
                503: "The database does not answer",
            },
        ),
    )
    async def post(
        request: Request,
        who: Annotated[Caller, door.caller],
        idempotency_key: Annotated[str | None, Header()] = None,
        traceparent: Annotated[str | None, Header()] = None,
        validate: Annotated[
            bool, Query(description="Say what is wrong with it, or nothing, and send nothing.")
        ] = False,
    ) -> Response:
        await door.admission.admit(who.tenant, 1)
        document = await read_json(request, limit=SINGLE_LIMIT)
        asked = _asked(who, traceparent, header_key=idempotency_key)
        entry = _entry(door.outbox, document, asked, door.clock)
        if validate:
            return JSONResponse(_valid(entry))
        with database_errors_as_503():
            result = await door.batcher.write(entry)
        if isinstance(result, Conflict):
            raise _conflict(result)
        headers = {"Location": f"/v1/messages/{result.id}"}
        if result.replayed:
            headers["Idempotent-Replayed"] = "true"
        return JSONResponse(
            _accepted(result, entry), 200 if result.replayed else 202, headers=headers
        )


def _offer_batch(routes: APIRouter, door: Dependencies) -> None:
    @routes.post(
        "/messages/batch",
        status_code=202,
        summary=f"Send up to {MOST_IN_A_BATCH} messages; a result for each, in order",
        openapi_extra=batch_body(MOST_IN_A_BATCH),
        responses=_answers(
            batch_answer(),
            {
                413: "The body is too large",
                422: "It is not a list of messages",
                429: "Over the tenant's rate limit; nothing of the batch was accepted",
                503: "The database does not answer; nothing of the batch was accepted",
            },
        ),
    )
    async def post_batch(
        request: Request,
        who: Annotated[Caller, door.caller],
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        documents = _messages_of(await read_json(request, limit=BATCH_LIMIT))
        await door.admission.admit(who.tenant, len(documents))
        asked = _asked(who, traceparent)
        prepared = await asyncio.to_thread(
            lambda: [_entry_or_problem(door.outbox, one, asked, door.clock) for one in documents]
        )
        with database_errors_as_503():
            written = await door.batcher.write_many([e for e in prepared if isinstance(e, Entry)])
        results = iter(written)
        answers = [
            _answer(next(results), entry) if isinstance(entry, Entry) else {"error": entry.body()}
            for entry in prepared
        ]
        return JSONResponse({"results": answers}, 202)


def _offer_cancel(routes: APIRouter, door: Dependencies) -> None:
    @routes.post(
        "/messages/{message_id}/cancel",
        summary="Withdraw a message before anything is sent",
        description="Also one that waits to be tried again after attempts that sent nothing.",
        responses=_answers(
            None,
            {
                404: "There is no such message",
                409: "It was sent, is being sent or may have been, or it has ended",
            },
        ),
    )
    async def withdraw(message_id: UUID, who: Annotated[Caller, door.caller]) -> dict[str, Any]:
        now = door.clock()
        try:
            header, attempts = await cancel(
                door.pool, door.codec, tenant=who.tenant, message_id=message_id, at=now
            )
        except NoSuchMessageError:
            raise Problem(404, "Not Found", "There is no such message") from None
        except TooLateError:
            detail = "The message was sent, is being sent or may have been, or it has ended"
            raise Problem(409, "Conflict", detail) from None
        return to_response(
            header,
            status=Status.CANCELLED,
            reason=Reason.CANCELLED,
            attempts=attempts,
            finished_at=now,
        )


def _answers(
    accepted: dict[str, Any] | None, others: Mapping[int, str]
) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {} if accepted is None else {202: accepted}
    return found | {status: {"description": text} for status, text in others.items()}


@contextmanager
def database_errors_as_503() -> Iterator[None]:
    """A database that goes away while it commits leaves open whether it did; the key settles it."""
    try:
        yield
    except DatabaseUnavailableError as error:
        raise Problem(
            503,
            "Service unavailable",
            "The database does not answer; send it again with the same idempotency key",
            headers={"Retry-After": "1"},
        ) from error


def _asked(who: Caller, traceparent: str | None, header_key: str | None = None) -> _Asked:
    """A trace context that is malformed is ignored, as W3C asks; it is no reason to refuse."""
    known = traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None
    return _Asked(
        tenant=who.tenant,
        traceparent=known,
        for_tests=who.is_for_tests,
        header_key=header_key or None,
    )


def _messages_of(document: object) -> list[object]:
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list):
        raise invalid([Violation("messages", "must be a list of messages")])
    if not 1 <= len(messages) <= MOST_IN_A_BATCH:
        raise invalid([Violation("messages", f"must hold 1 to {MOST_IN_A_BATCH} messages")])
    return messages


def _entry(outbox: Outbox, document: object, asked: _Asked, clock: Clock) -> Entry:
    """The entry a document asks for.

    Raises:
        Problem: 413 for attachments over the limit, 422 for anything else that is wrong.
    """
    try:
        request = requests.parse(document)
        key = _key(request.idempotency_key, asked.header_key)
        now = clock()
        stamp = Stamp(
            tenant=asked.tenant,
            id=new_message_id(int(now.timestamp() * 1000)),
            created_at=now,
            traceparent=asked.traceparent,
            mode=_mode(request.mode, for_tests=asked.for_tests),
        )
        _refuse_large_attachments(request)
        return outbox.entries([to_message(request, stamp)], [key])[0]
    except InvalidRecordError as error:
        raise invalid([requests.as_asked(found) for found in error.violations]) from error


def _entry_or_problem(
    outbox: Outbox, document: object, asked: _Asked, clock: Clock
) -> Entry | Problem:
    try:
        return _entry(outbox, document, asked, clock)
    except Problem as problem:
        return problem


def _mode(wanted: Mode | None, *, for_tests: bool) -> Mode:
    """How a message is meant, by its own word and by the key that it was posted with."""
    if for_tests and wanted not in (None, Mode.SIMULATED):
        raise invalid([Violation("mode", "must be simulated with an API key for tests")])
    return wanted or (Mode.SIMULATED if for_tests else Mode.LIVE)


def _key(field: str | None, header: str | None) -> str | None:
    if field is not None and header is not None and field != header:
        raise invalid([Violation("idempotency_key", "differs from the Idempotency-Key header")])
    return field if field is not None else header


def _refuse_large_attachments(request: requests.Request) -> None:
    if isinstance(request, requests.EmailRequest):
        size = sum(len(attachment.content) for attachment in request.attachments)
        if size > ATTACHMENTS_LIMIT:
            limit = ATTACHMENTS_LIMIT // 1024 // 1024
            raise Problem(
                413, "Content Too Large", errors=[Violation("attachments", f"over {limit} MiB")]
            )


def _valid(entry: Entry) -> dict[str, Any]:
    return {"valid": True, "channel": entry.message.channel, **segment_summary(entry.message)}


def _answer(result: Result, entry: Entry) -> Mapping[str, Any]:
    if isinstance(result, Conflict):
        return {"error": _conflict(result).body()}
    again = {"replayed": True} if result.replayed else {}
    return {
        "id": str(result.id),
        "status": result.status,
        **again,
        **segment_summary(entry.message),
    }


def _accepted(result: Accepted, entry: Entry) -> dict[str, Any]:
    message = replace(
        entry.message, id=result.id, created_at=result.created_at or entry.message.created_at
    )
    waits = Reason.SCHEDULED if entry.due_at else Reason.QUEUED
    reason = waits if result.status is Status.PENDING else None
    return {
        **to_response(message, status=result.status, reason=reason),
        **segment_summary(message),
    }


def _conflict(conflict: Conflict) -> Problem:
    return Problem(
        409,
        "Conflict",
        f"The idempotency key was used for another message: {conflict.id}",
        errors=[Violation("idempotency_key", "was used with another body")],
    )
