"""From a JSON document to an `Entry` that can be written to the outbox.

The routes of `producer.api` call `prepare_entry` for each message of a request. It parses the
document (`producer.requests`), builds the message (`producer.building`), and lets the outbox check
and encode it (`producer.outbox`). Anything that is wrong becomes a `Problem` that names the field.
"""

import re
from dataclasses import dataclass

from comms.platform.auth import Caller
from comms.platform.clock import Clock
from comms.platform.problems import Problem, unprocessable
from producer.building import Stamp, to_message
from producer.outbox import Outbox
from producer.request_errors import to_request_field
from producer.requests import ChannelRequest, EmailRequest, parse
from producer.statements import Entry
from schemas.errors import InvalidRecordError, Violation
from schemas.ids import new_message_id
from schemas.rules import ATTACHMENTS_LIMIT
from schemas.vocabulary import Mode

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """The authenticated caller, the trace context and the idempotency key of the request."""

    tenant: str
    traceparent: str | None
    is_test: bool
    header_key: str | None = None


def to_context(
    caller: Caller, traceparent: str | None, header_key: str | None = None
) -> RequestContext:
    """Return the context of a request. A malformed trace context is ignored, as W3C requires."""
    is_valid = traceparent is not None and _TRACEPARENT.fullmatch(traceparent) is not None
    return RequestContext(
        tenant=caller.tenant,
        traceparent=traceparent if is_valid else None,
        is_test=caller.is_test,
        header_key=header_key or None,
    )


def prepare_entry(outbox: Outbox, document: object, context: RequestContext, clock: Clock) -> Entry:
    """Parse, check and encode the message that a document describes.

    Raises:
        Problem: 413 for attachments over the limit, 422 for any other error.
    """
    try:
        request = parse(document)
        key = _idempotency_key(request.idempotency_key, context.header_key)
        now = clock()
        stamp = Stamp(
            tenant=context.tenant,
            id=new_message_id(int(now.timestamp() * 1000)),
            created_at=now,
            traceparent=context.traceparent,
            mode=_mode(request.mode, is_test=context.is_test),
        )
        _refuse_large_attachments(request)
        return outbox.entries([to_message(request, stamp)], [key])[0]
    except InvalidRecordError as error:
        violations = [to_request_field(violation) for violation in error.violations]
        raise unprocessable(violations) from error


def prepare_entry_or_problem(
    outbox: Outbox, document: object, context: RequestContext, clock: Clock
) -> Entry | Problem:
    """Return the entry of one message of a batch, or the problem with it."""
    try:
        return prepare_entry(outbox, document, context, clock)
    except Problem as problem:
        return problem


def _mode(requested: Mode | None, *, is_test: bool) -> Mode:
    """Return the mode of a message, from its `mode` field and the API key of the request."""
    if is_test and requested not in (None, Mode.SIMULATED):
        raise unprocessable(
            [Violation("mode", "must be simulated, because the API key is for tests")]
        )
    return requested or (Mode.SIMULATED if is_test else Mode.LIVE)


def _idempotency_key(field: str | None, header: str | None) -> str | None:
    if field is not None and header is not None and field != header:
        problem = "differs from the Idempotency-Key header; send only one of the two"
        raise unprocessable([Violation("idempotency_key", problem)])
    return field if field is not None else header


def _refuse_large_attachments(request: ChannelRequest) -> None:
    if not isinstance(request, EmailRequest):
        return
    size = sum(len(attachment.content) for attachment in request.attachments)
    if size > ATTACHMENTS_LIMIT:
        limit = ATTACHMENTS_LIMIT // 1024 // 1024
        problem = f"must be at most {limit} MiB together"
        raise Problem(413, "Content Too Large", errors=[Violation("attachments", problem)])
