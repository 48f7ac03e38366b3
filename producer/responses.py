"""The API's responses for messages that were just accepted, refused or cancelled.

The routes of `producer.api` call these functions. The fields of a message have the same names as in
the audit service's responses, so that clients parse one shape.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from comms.platform.problems import Problem
from producer.statements import Enqueued, Entry, KeyConflict, Result
from schemas.errors import Violation
from schemas.messages import HeaderSource, Message, SmsMessage
from schemas.segments import segments
from schemas.vocabulary import Reason, Status


def to_response(
    header: HeaderSource,
    *,
    status: Status,
    reason: Reason | None,
    attempts: int = 0,
    finished_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the message without its content; fields that attempts fill in are null."""
    return {
        "id": str(header.id),
        "tenant": header.tenant,
        "channel": header.channel,
        "to": header.recipient,
        "status": status,
        "reason": reason,
        "provider": None,
        "provider_message_id": None,
        "attempts": attempts,
        "customer_id": header.customer_id,
        "workflow": header.workflow,
        "priority": header.priority,
        "created_at": header.created_at.isoformat(),
        "updated_at": (finished_at or header.created_at).isoformat(),
        "send_at": _text(header.send_at),
        "expires_at": _text(header.expires_at),
        "sent_at": None,
        "finished_at": _text(finished_at),
        "metadata": dict(header.metadata),
        "mode": header.mode,
    }


def segment_summary(message: Message) -> dict[str, Any]:
    """Return the segments of a text message under `segments`; an empty dict for other messages."""
    if not isinstance(message, SmsMessage):
        return {}
    measured = segments(message.body)
    return {
        "segments": {
            "count": measured.count,
            "encoding": measured.alphabet,
            "units": measured.units,
        }
    }


def accepted_response(result: Enqueued, entry: Entry) -> dict[str, Any]:
    """Return the response for one accepted message; for a replay, with the original's id."""
    message = replace(
        entry.message, id=result.id, created_at=result.created_at or entry.message.created_at
    )
    pending_reason = Reason.SCHEDULED if entry.due_at else Reason.QUEUED
    reason = pending_reason if result.status is Status.PENDING else None
    return {
        **to_response(message, status=result.status, reason=reason),
        **segment_summary(message),
    }


def valid_response(entry: Entry) -> dict[str, Any]:
    """Return the response for a valid message that was checked and not sent."""
    return {"valid": True, "channel": entry.message.channel, **segment_summary(entry.message)}


def batch_item(result: Result, entry: Entry) -> Mapping[str, Any]:
    """Return the result of one message of a batch."""
    if isinstance(result, KeyConflict):
        return {"error": conflict_problem(result).body()}
    replayed = {"replayed": True} if result.replayed else {}
    return {
        "id": str(result.id),
        "status": result.status,
        **replayed,
        **segment_summary(entry.message),
    }


def conflict_problem(conflict: KeyConflict) -> Problem:
    """Return the problem of an idempotency key that was used with another body."""
    return Problem(
        409,
        "Conflict",
        f"The idempotency key was used for another message: {conflict.id}",
        errors=[Violation("idempotency_key", "was used with another body")],
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
