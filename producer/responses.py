"""A message as the API answers it when it was just accepted or withdrawn.

The same names as the audit service's answers have, so that a client reads one shape.
"""

from datetime import datetime
from typing import Any

from schemas.messages import Message, SmsMessage
from schemas.segments import segments
from schemas.vocabulary import Reason, Status


def to_response(
    message: Message,
    *,
    status: Status,
    reason: Reason | None,
    attempts: int = 0,
    finished_at: datetime | None = None,
) -> dict[str, Any]:
    """The message without its content; what no attempt has filled in is null."""
    return {
        "id": str(message.id),
        "tenant": message.tenant,
        "channel": message.channel,
        "to": message.recipient,
        "status": status,
        "reason": reason,
        "provider": None,
        "provider_message_id": None,
        "attempts": attempts,
        "customer_id": message.customer_id,
        "workflow": message.workflow,
        "priority": message.priority,
        "created_at": message.created_at.isoformat(),
        "updated_at": (finished_at or message.created_at).isoformat(),
        "send_at": _text(message.send_at),
        "expires_at": _text(message.expires_at),
        "sent_at": None,
        "finished_at": _text(finished_at),
        "metadata": dict(message.metadata),
        "mode": message.mode,
    }


def segment_summary(message: Message) -> dict[str, Any]:
    """What networks will count of a text message, as `segments`; nothing of other messages."""
    if not isinstance(message, SmsMessage):
        return {}
    found = segments(message.body)
    return {"segments": {"count": found.count, "encoding": found.alphabet, "units": found.units}}


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
