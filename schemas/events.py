"""What happened to a message, and a named constructor for each thing that can.

The relay announces `queued`; a consumer announces `claimed` and then what its attempt came to; the
receipt desk announces a `receipt`, or that a message was `handed_on`, and the consumer, after long,
that nothing came; `resolved` is what a person settled. All go to `comms.status`, where the audit
service remembers them. Nobody builds a `StatusEvent` from a bare status: each function below takes
exactly what its status needs, and derives the event's id so that a repetition is recognised.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from schemas.ids import event_id
from schemas.messages import Envelope
from schemas.vocabulary import Channel, Mode, Priority, Reason, Status

RESPONSE_LIMIT = 4096  # characters of a provider's raw answer that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderResponse:
    """What a provider answered or reported.

    Args:
        provider_message_id: the provider's own id of the message.
        code: its code, as text.
        detail: its sentence.
        raw: its answer as it came.
    """

    provider_message_id: str | None = None
    code: str | None = None
    detail: str | None = None
    raw: str | None = None


NO_RESPONSE = ProviderResponse()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StatusEvent:
    """One thing that happened to one message; fields as in `status_event.avsc`."""

    id: UUID
    message_id: UUID
    tenant: str
    channel: Channel
    status: Status
    reason: Reason
    attempt: int = 0
    provider: str | None = None
    provider_message_id: str | None = None
    code: str | None = None
    detail: str | None = None
    response: str | None = None
    occurred_at: datetime
    recipient: str | None = None
    customer_id: str | None = None
    workflow: str | None = None
    priority: Priority | None = None
    created_at: datetime | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    mode: Mode | None = None

    def __repr__(self) -> str:
        return f"StatusEvent({self.message_id} {self.status} {self.reason} attempt={self.attempt})"


def queued(message: Envelope) -> StatusEvent:
    """The message was accepted and is on its way to a consumer."""
    return _of(message, Status.PENDING, Reason.QUEUED, at=message.created_at)


def cancelled(message: Envelope, *, at: datetime, attempt: int = 0) -> StatusEvent:
    """The message was withdrawn before anything was sent; `attempt` is the last that was made."""
    return _of(message, Status.CANCELLED, Reason.CANCELLED, at=at, attempt=attempt)


def claimed(
    message: Envelope,
    *,
    attempt: int,
    provider: str,
    at: datetime,
    reason: Reason = Reason.CLAIMED,
    detail: str | None = None,
) -> StatusEvent:
    """An attempt begins; reason `ambiguous` where it repeats one whose answer was lost, `resent`
    where a person asked for it."""
    response = NO_RESPONSE if detail is None else ProviderResponse(detail=detail)
    return _of(
        message,
        Status.SENDING,
        reason,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def accepted(
    message: Envelope, *, attempt: int, provider: str, at: datetime, response: ProviderResponse
) -> StatusEvent:
    """The provider took the message."""
    return _of(
        message,
        Status.SENT,
        Reason.ACCEPTED,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def devices_gone(
    message: Envelope, *, attempt: int, provider: str, at: datetime, response: ProviderResponse
) -> StatusEvent:
    """Of a person's several devices some are gone, as the words tell; it is told before what came
    of the message, so that whoever sends can drop them."""
    return _of(
        message,
        Status.SENDING,
        Reason.INVALID_RECIPIENT,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def deferred(
    message: Envelope,
    *,
    attempt: int,
    provider: str,
    at: datetime,
    reason: Reason,
    response: ProviderResponse,
) -> StatusEvent:
    """The provider refused the attempt for the moment; another will follow."""
    return _of(
        message,
        Status.SENDING,
        reason,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def failed(
    message: Envelope,
    *,
    reason: Reason,
    at: datetime,
    attempt: int = 0,
    provider: str | None = None,
    response: ProviderResponse = NO_RESPONSE,
) -> StatusEvent:
    """The message will not be sent, or the provider refused it for good."""
    return _of(
        message, Status.FAILED, reason, attempt=attempt, provider=provider, at=at, response=response
    )


def in_doubt(
    message: Envelope, *, attempt: int, provider: str, at: datetime, response: ProviderResponse
) -> StatusEvent:
    """A call was made, its answer was lost, and the message is held for a receipt or a person."""
    return _of(
        message,
        Status.UNKNOWN,
        Reason.AMBIGUOUS,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def undecodable(
    *, message_id: UUID, tenant: str, channel: Channel, detail: str, at: datetime
) -> StatusEvent:
    """What stood in the topic was not a message, but its id could be read."""
    return StatusEvent(
        id=event_id(message_id, Status.FAILED, Reason.UNDECODABLE),
        message_id=message_id,
        tenant=tenant,
        channel=channel,
        status=Status.FAILED,
        reason=Reason.UNDECODABLE,
        detail=detail,
        occurred_at=at,
    )


def receipt(
    *,
    message_id: UUID,
    tenant: str,
    channel: Channel,
    provider: str,
    attempt: int,
    delivered: bool,
    at: datetime,
    response: ProviderResponse,
    reason: Reason = Reason.UNDELIVERED,
) -> StatusEvent:
    """A provider's later word: `delivered`, or failed for `reason`."""
    status = Status.DELIVERED if delivered else Status.FAILED
    why = Reason.DELIVERED if delivered else reason
    return StatusEvent(
        id=event_id(message_id, "receipt", provider, status, response.provider_message_id or ""),
        message_id=message_id,
        tenant=tenant,
        channel=channel,
        status=status,
        reason=why,
        attempt=attempt,
        provider=provider,
        provider_message_id=response.provider_message_id,
        code=response.code,
        detail=response.detail,
        response=_cut(response.raw),
        occurred_at=at,
    )


def handed_on(
    *,
    message_id: UUID,
    tenant: str,
    channel: Channel,
    provider: str,
    attempt: int,
    at: datetime,
    response: ProviderResponse,
) -> StatusEvent:
    """A provider's later word that it passed the message on, and knows no more: it stays sent."""
    return StatusEvent(
        id=event_id(
            message_id, "receipt", provider, Status.SENT, response.provider_message_id or ""
        ),
        message_id=message_id,
        tenant=tenant,
        channel=channel,
        status=Status.SENT,
        reason=Reason.ACCEPTED,
        attempt=attempt,
        provider=provider,
        provider_message_id=response.provider_message_id,
        code=response.code,
        detail=response.detail,
        response=_cut(response.raw),
        occurred_at=at,
    )


def resolved(
    *,
    message_id: UUID,
    tenant: str,
    channel: Channel,
    provider: str,
    attempt: int,
    sent: bool,
    at: datetime,
    by: str,
) -> StatusEvent:
    """A person settled what was unknown: `attempt` was carried out, or it was not.

    Args:
        by: the name of the API key that they used. An attempt is settled once: the event's id does
            not depend on the answer.
    """
    return StatusEvent(
        id=event_id(message_id, "resolved", attempt),
        message_id=message_id,
        tenant=tenant,
        channel=channel,
        status=Status.SENT if sent else Status.FAILED,
        reason=Reason.RESOLVED,
        attempt=attempt,
        provider=provider,
        detail=f"settled by a person, with the API key {by!r}",
        occurred_at=at,
    )


def no_receipt(
    *,
    message_id: UUID,
    tenant: str,
    channel: Channel,
    provider: str,
    attempt: int,
    status: Status,
    since: datetime,
    allowed: timedelta,
) -> StatusEvent:
    """The provider confirmed nothing for longer than is allowed; the message stays what it is.

    Args:
        status: `sent` or `unknown`, as the attempt left it at `since`.
    """
    return StatusEvent(
        id=event_id(message_id, status, Reason.NO_RECEIPT, attempt),
        message_id=message_id,
        tenant=tenant,
        channel=channel,
        status=status,
        reason=Reason.NO_RECEIPT,
        attempt=attempt,
        provider=provider,
        detail=f"no receipt within {allowed.total_seconds() / 3600:g} h",
        occurred_at=since + allowed,
    )


def _of(
    message: Envelope,
    status: Status,
    reason: Reason,
    *,
    at: datetime,
    attempt: int = 0,
    provider: str | None = None,
    response: ProviderResponse = NO_RESPONSE,
) -> StatusEvent:
    return StatusEvent(
        id=event_id(message.id, status, reason, attempt),
        message_id=message.id,
        tenant=message.tenant,
        channel=message.channel,
        status=status,
        reason=reason,
        attempt=attempt,
        provider=provider,
        provider_message_id=response.provider_message_id,
        code=response.code,
        detail=response.detail,
        response=_cut(response.raw),
        occurred_at=at,
        recipient=message.recipient,
        customer_id=message.customer_id,
        workflow=message.workflow,
        priority=message.priority,
        created_at=message.created_at,
        send_at=message.send_at,
        expires_at=message.expires_at,
        metadata=message.metadata,
        traceparent=message.traceparent,
        mode=message.mode,
    )


def _cut(response: str | None) -> str | None:
    return None if response is None else response[:RESPONSE_LIMIT]
