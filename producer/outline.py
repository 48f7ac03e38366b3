"""A message without its content, from the columns that are kept of it.

Status events carry what an envelope has and no content; the relay and the cancellation announce
them from rows of `producer.message`, without opening the message itself.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.messages import EmailMessage, Message, PushMessage, SmsMessage, VoiceMessage
from schemas.vocabulary import Channel, Priority


def outline(
    *,
    message_id: UUID,
    tenant: str,
    channel: str,
    recipient: str,
    customer_id: str | None,
    workflow: str | None,
    priority: str,
    created_at: datetime,
    send_at: datetime | None,
    expires_at: datetime | None,
    metadata: Mapping[str, str],
) -> Message:
    """The envelope and the recipient, as a message of its channel whose content is empty."""
    envelope: dict[str, Any] = {
        "id": message_id,
        "tenant": tenant,
        "created_at": created_at,
        "customer_id": customer_id,
        "workflow": workflow,
        "priority": Priority(priority),
        "send_at": send_at,
        "expires_at": expires_at,
        "metadata": metadata,
    }
    match Channel(channel):
        case Channel.SMS:
            return SmsMessage(**envelope, to=recipient, body="")
        case Channel.EMAIL:
            return EmailMessage(**envelope, to=recipient, subject="")
        case Channel.PUSH:
            return PushMessage(**envelope, title="", body="", tokens=(recipient,))
        case Channel.VOICE:
            return VoiceMessage(**envelope, to=recipient)
