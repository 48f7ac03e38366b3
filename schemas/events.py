"""Status events: what happened to a message, with a named constructor for each kind of event.

The relay publishes `queued`. A channel process publishes `claimed` and then the outcome of the
attempt. The receipt processor publishes `receipt`, or `handed_to_carrier`. A channel process
publishes `no_receipt` when no receipt came in time. `resolved` records what a person settled. All
events go to `comms.status`, and the audit service stores them.

Code never builds a `StatusEvent` from a bare status. Each function below takes exactly what its
status needs: the header of the message (a `MessageHeader`, or the message itself, which has the
same fields) and what happened. It derives the event's id, so that a repeated event is recognised.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from schemas.ids import event_id
from schemas.messages import HeaderSource
from schemas.vocabulary import Channel, Mode, Priority, Reason, Status

RESPONSE_LIMIT = 4096  # characters; a longer raw answer is cut


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
    """One event of one message. The fields are documented in `status_event.avsc`."""

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


def queued(header: HeaderSource) -> StatusEvent:
    """Return the event of a message that was accepted and published to its topic."""
    return _build_event(header, Status.PENDING, Reason.QUEUED, at=header.created_at)


def cancelled(header: HeaderSource, *, at: datetime, attempt: int = 0) -> StatusEvent:
    """Return the event of a message that was withdrawn before it was sent.

    Args:
        attempt: the number of attempts made before.
    """
    return _build_event(header, Status.CANCELLED, Reason.CANCELLED, at=at, attempt=attempt)


def claimed(
    header: HeaderSource,
    *,
    attempt: int,
    provider: str,
    at: datetime,
    reason: Reason = Reason.CLAIMED,
    detail: str | None = None,
) -> StatusEvent:
    """Return the event of an attempt that begins.

    Args:
        reason: `ambiguous` if it repeats an attempt whose answer was lost, `resent` if a person
            requested it.
    """
    response = NO_RESPONSE if detail is None else ProviderResponse(detail=detail)
    return _build_event(
        header,
        Status.SENDING,
        reason,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def accepted(
    header: HeaderSource, *, attempt: int, provider: str, at: datetime, response: ProviderResponse
) -> StatusEvent:
    """Return the event of a message that the provider accepted."""
    return _build_event(
        header,
        Status.SENT,
        Reason.ACCEPTED,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def devices_unregistered(
    header: HeaderSource, *, attempt: int, provider: str, at: datetime, response: ProviderResponse
) -> StatusEvent:
    """Return the event of a push message some of whose devices are no longer registered.

    It is published before the outcome of the message, so that the sender can drop these devices.
    `response` names them.
    """
    return _build_event(
        header,
        Status.SENDING,
        Reason.INVALID_RECIPIENT,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def deferred(
    header: HeaderSource,
    *,
    attempt: int,
    provider: str,
    at: datetime,
    reason: Reason,
    response: ProviderResponse,
) -> StatusEvent:
    """Return the event of an attempt that failed for now; another attempt will follow."""
    return _build_event(
        header,
        Status.SENDING,
        reason,
        attempt=attempt,
        provider=provider,
        at=at,
        response=response,
    )


def failed(
    header: HeaderSource,
    *,
    reason: Reason,
    at: datetime,
    attempt: int = 0,
    provider: str | None = None,
    response: ProviderResponse = NO_RESPONSE,
) -> StatusEvent:
    """Return the event of a message that is never sent, or that the provider refused for good."""
    return _build_event(
        header, Status.FAILED, reason, attempt=attempt, provider=provider, at=at, response=response
    )


def in_doubt(
    header: HeaderSource, *, attempt: int, provider: str, at: datetime, response: ProviderResponse
) -> StatusEvent:
    """Return the event of a call whose answer was lost, for a message held until it is settled.

    A receipt or a person settles it.
    """
    return _build_event(
        header,
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
    """Return the event of a record that is not a valid message but whose id could be read."""
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
    """Return the event of a receipt: `delivered`, or failed for `reason`."""
    status = Status.DELIVERED if delivered else Status.FAILED
    receipt_reason = Reason.DELIVERED if delivered else reason
    return StatusEvent(
        id=event_id(message_id, "receipt", provider, status, response.provider_message_id or ""),
        message_id=message_id,
        tenant=tenant,
        channel=channel,
        status=status,
        reason=receipt_reason,
        attempt=attempt,
        provider=provider,
        provider_message_id=response.provider_message_id,
        code=response.code,
        detail=response.detail,
        response=_truncate(response.raw),
        occurred_at=at,
    )


def handed_to_carrier(
    *,
    message_id: UUID,
    tenant: str,
    channel: Channel,
    provider: str,
    attempt: int,
    at: datetime,
    response: ProviderResponse,
) -> StatusEvent:
    """Return the event of a receipt that the carrier has the message; the message stays `sent`."""
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
        response=_truncate(response.raw),
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
    """Return the event of an `unknown` message that a person settled.

    An attempt is settled once: the event's id does not depend on `sent`.

    Args:
        sent: whether the attempt was carried out.
        by: the name of the API key that the person used.
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
    """Return the event of a message without a receipt in the allowed time; its status stays.

    Args:
        status: `sent` or `unknown`, the status since `since`.
        allowed: the time that a receipt may take.
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


def _build_event(
    header: HeaderSource,
    status: Status,
    reason: Reason,
    *,
    at: datetime,
    attempt: int = 0,
    provider: str | None = None,
    response: ProviderResponse = NO_RESPONSE,
) -> StatusEvent:
    return StatusEvent(
        id=event_id(header.id, status, reason, attempt),
        message_id=header.id,
        tenant=header.tenant,
        channel=header.channel,
        status=status,
        reason=reason,
        attempt=attempt,
        provider=provider,
        provider_message_id=response.provider_message_id,
        code=response.code,
        detail=response.detail,
        response=_truncate(response.raw),
        occurred_at=at,
        recipient=header.recipient,
        customer_id=header.customer_id,
        workflow=header.workflow,
        priority=header.priority,
        created_at=header.created_at,
        send_at=header.send_at,
        expires_at=header.expires_at,
        metadata=header.metadata,
        traceparent=header.traceparent,
        mode=header.mode,
    )


def _truncate(raw: str | None) -> str | None:
    return None if raw is None else raw[:RESPONSE_LIMIT]
