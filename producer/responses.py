"""The API's answer for a message that was just accepted or cancelled.

`producer.api` calls `to_response` and `segment_summary`. The fields have the same names as in the
audit service's answers, so that clients parse one shape.
"""

from datetime import datetime
from typing import Any

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


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
