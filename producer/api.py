"""The front door over HTTP: post a message, post many, cancel one.

`comms.app` mounts `router`. A request's body becomes a message (`producer.requests`,
`producer.building`), is held against the rules, and is written to the outbox; 202 means that the
transaction has committed and the message will not be lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from psycopg_pool import AsyncConnectionPool

from comms.auth import Authenticator, Caller
from comms.clock import Clock, utc_now
from comms.problems import Problem, invalid
from producer import requests
from producer.batcher import Batcher
from producer.bodies import BATCH_LIMIT, SINGLE_LIMIT, read_json
from producer.building import Stamp, to_message
from producer.cancelling import Cancellation, cancel
from producer.outbox import Outbox
from producer.statements import Accepted, Conflict, Entry, Result
from schemas.codec import Codec
from schemas.errors import InvalidRecordError, Violation
from schemas.ids import new_message_id
from schemas.rules import ATTACHMENTS_LIMIT

MOST_IN_A_BATCH = 1000

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": requests.REQUEST.json_schema()}},
    }
}
_BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["messages"],
                    "properties": {
                        "messages": {
                            "type": "array",
                            "maxItems": MOST_IN_A_BATCH,
                            "items": {"type": "object"},
                            "description": "Each as in POST /v1/messages.",
                        }
                    },
                }
            }
        },
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Who asks, and in which trace."""

    tenant: str
    traceparent: str | None
    header_key: str | None = None


def router(
    *,
    pool: AsyncConnectionPool,
    codec: Codec,
    authenticator: Authenticator,
    clock: Clock = utc_now,
) -> APIRouter:
    """The routes; `pool` is open while they are served."""
    routes = APIRouter(prefix="/v1", tags=["messages"])
    outbox = Outbox(codec, clock)
    batcher = Batcher(pool, outbox)
    caller = Depends(authenticator)

    @routes.post(
        "/messages",
        status_code=202,
        summary="Send one message",
        openapi_extra=_BODY,
        responses={200: {"description": "The same key and body again: the original message"}},
    )
    async def post(
        request: Request,
        who: Annotated[Caller, caller],
        idempotency_key: Annotated[str | None, Header()] = None,
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        document = await read_json(request, limit=SINGLE_LIMIT)
        asked = _Asked(
            tenant=who.tenant, traceparent=traceparent, header_key=idempotency_key or None
        )
        entry = _entry(outbox, document, asked, clock)
        result = await batcher.write(entry)
        if isinstance(result, Conflict):
            raise _conflict(result)
        headers = {"Location": f"/v1/messages/{result.id}"}
        if result.replayed:
            headers["Idempotent-Replayed"] = "true"
        return JSONResponse(
            _accepted(result, entry), 200 if result.replayed else 202, headers=headers
        )

    @routes.post(
        "/messages/batch",
        status_code=202,
        summary=f"Send up to {MOST_IN_A_BATCH} messages; a result for each, in order",
        openapi_extra=_BATCH_BODY,
    )
    async def post_batch(
        request: Request,
        who: Annotated[Caller, caller],
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        documents = _messages_of(await read_json(request, limit=BATCH_LIMIT))
        asked = _Asked(tenant=who.tenant, traceparent=traceparent)
        prepared = [_entry_or_problem(outbox, document, asked, clock) for document in documents]
        entries = [entry for entry in prepared if isinstance(entry, Entry)]
        results = iter(await batcher.write_many(entries))
        answers = [
            _answer(next(results), entry) if isinstance(entry, Entry) else {"error": entry.body()}
            for entry in prepared
        ]
        return JSONResponse({"results": answers}, 202)

    @routes.post("/messages/{message_id}/cancel", summary="Withdraw a message not yet attempted")
    async def withdraw(message_id: UUID, who: Annotated[Caller, caller]) -> dict[str, Any]:
        found = await cancel(pool, codec, tenant=who.tenant, message_id=message_id, at=clock())
        match found:
            case Cancellation.NO_SUCH_MESSAGE:
                raise Problem(404, "Not Found", "There is no such message")
            case Cancellation.TOO_LATE:
                raise Problem(409, "Conflict", "An attempt has begun, or the message has ended")
            case Cancellation.DONE:
                return {"id": str(message_id), "status": "cancelled", "reason": "cancelled"}

    return routes


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


def _answer(result: Result, entry: Entry) -> Mapping[str, Any]:
    if isinstance(result, Conflict):
        return {"error": _conflict(result).body()}
    return _accepted(result, entry)


def _accepted(result: Accepted, entry: Entry) -> dict[str, Any]:
    message = entry.message
    answer: dict[str, Any] = {
        "id": str(result.id),
        "status": result.status,
        "channel": message.channel,
        "to": message.recipient,
    }
    if result.replayed:
        return answer | {"replayed": True}
    return answer | {
        "created_at": message.created_at.isoformat(),
        "send_at": message.send_at.isoformat() if message.send_at else None,
    }


def _conflict(conflict: Conflict) -> Problem:
    return Problem(
        409,
        "Conflict",
        f"The idempotency key was used for another message: {conflict.id}",
        errors=[Violation("idempotency_key", "was used with another body")],
    )
