"""Builds a message from a parsed request.

`producer.entries` calls `to_message` with a `Stamp`, which has the fields that the producer adds,
such as the tenant, the id of the new message and the time when it was accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from producer.requests import (
    ChannelRequest,
    EmailRequest,
    PushRequest,
    SmsRequest,
    SubscriptionRequest,
    VoiceRequest,
)
from schemas.ids import with_slot
from schemas.messages import (
    Attachment,
    EmailMessage,
    Message,
    PushMessage,
    SmsMessage,
    VoiceMessage,
    WebPushSubscription,
)
from schemas.vocabulary import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """The fields that the producer adds to a request."""

    tenant: str
    id: UUID
    created_at: datetime
    traceparent: str | None = None
    mode: Mode = Mode.LIVE


def to_message(request: ChannelRequest, stamp: Stamp) -> Message:
    """Return the message of a request. Its id carries the slot of its Kafka key."""
    message = _to_message(request, stamp)
    return replace(message, id=with_slot(stamp.id, message.key))


def _to_message(request: ChannelRequest, stamp: Stamp) -> Message:
    envelope: dict[str, Any] = {
        "id": stamp.id,
        "tenant": stamp.tenant,
        "created_at": stamp.created_at,
        "traceparent": stamp.traceparent,
        "customer_id": request.customer_id,
        "workflow": request.workflow,
        "priority": request.priority,
        "send_at": request.send_at,
        "expires_at": request.expires_at,
        "on_doubt": request.on_doubt,
        "metadata": request.metadata,
        "bypass_suppression": request.bypass_suppression,
        "mode": stamp.mode,
    }
    match request:
        case SmsRequest():
            return SmsMessage(**envelope, to=request.to, body=request.body, sender=request.sender)
        case EmailRequest():
            return _email(request, envelope)
        case PushRequest():
            return _push(request, envelope)
        case VoiceRequest():
            return _voice(request, envelope)
    assert_never(request)


def _email(request: EmailRequest, envelope: Mapping[str, Any]) -> EmailMessage:
    return EmailMessage(
        **envelope,
        to=request.to,
        subject=request.subject,
        text=request.text,
        html=request.html,
        cc=tuple(request.cc),
        bcc=tuple(request.bcc),
        reply_to=request.reply_to,
        sender=request.sender,
        attachments=tuple(
            Attachment(
                filename=item.filename,
                content_type=item.content_type,
                content=item.content,
                content_id=item.content_id,
            )
            for item in request.attachments
        ),
        headers=request.headers,
        unsubscribe_url=request.unsubscribe_url,
    )


def _push(request: PushRequest, envelope: Mapping[str, Any]) -> PushMessage:
    tokens: tuple[str, ...] = ()
    subscription = None
    match request.to:
        case str() as token:
            tokens = (token,)
        case list() as token_list:
            tokens = tuple(token_list)
        case SubscriptionRequest(endpoint=endpoint, keys=keys):
            subscription = WebPushSubscription(
                endpoint=endpoint, p256dh=keys.p256dh, auth=keys.auth
            )
    return PushMessage(
        **envelope,
        title=request.title,
        body=request.body,
        tokens=tokens,
        subscription=subscription,
        platform=request.platform,
        data=request.data,
        badge=request.badge,
        collapse_key=request.collapse_key,
        ttl=request.ttl,
    )


def _voice(request: VoiceRequest, envelope: Mapping[str, Any]) -> VoiceMessage:
    return VoiceMessage(
        **envelope,
        to=request.to,
        text=request.text,
        audio_url=request.audio_url,
        language=request.language,
        voice=request.voice,
        repeat=request.repeat,
        sender=request.sender,
    )
