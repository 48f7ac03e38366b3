"""Messages and events for the audit tests, made by the constructors the services use."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from schemas import events
from schemas.events import ProviderResponse, StatusEvent
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Reason, Status

NOW = datetime(2026, 3, 4, 10, 59, 59, 500_000, UTC)
PROVIDER = "simulated"


def sms(
    *,
    at: datetime = NOW,
    tenant: str = "acme",
    to: str = "+12025550100",
    customer_id: str | None = "c1",
    workflow: str | None = "signup",
    send_at: datetime | None = None,
) -> SmsMessage:
    """A text message accepted at `at`."""
    return SmsMessage(
        id=new_message_id(int(at.timestamp() * 1000)),
        tenant=tenant,
        created_at=at,
        to=to,
        body="hello",
        customer_id=customer_id,
        workflow=workflow,
        send_at=send_at,
        metadata={"order": "7"},
    )


def after(message: SmsMessage, milliseconds: int) -> datetime:
    """An instant of the message's life."""
    return message.created_at + timedelta(milliseconds=milliseconds)


def claimed(message: SmsMessage, attempt: int, at: int) -> StatusEvent:
    return events.claimed(message, attempt=attempt, provider=PROVIDER, at=after(message, at))


def resent(message: SmsMessage, attempt: int, at: int) -> StatusEvent:
    return events.claimed(
        message,
        attempt=attempt,
        provider=PROVIDER,
        at=after(message, at),
        reason=Reason.RESENT,
    )


def resolved(message: SmsMessage, attempt: int, at: int, *, sent: bool) -> StatusEvent:
    return events.resolved(
        message_id=message.id,
        tenant=message.tenant,
        channel=message.channel,
        provider=PROVIDER,
        attempt=attempt,
        sent=sent,
        at=after(message, at),
        by="support",
    )


def deferred(message: SmsMessage, attempt: int, at: int) -> StatusEvent:
    return events.deferred(
        message,
        attempt=attempt,
        provider=PROVIDER,
        at=after(message, at),
        reason=Reason.PROVIDER_ERROR,
        response=ProviderResponse(code="500", detail="try later", raw='{"error": 500}'),
    )


def accepted(message: SmsMessage, attempt: int, at: int) -> StatusEvent:
    response = ProviderResponse(provider_message_id=f"SM{attempt}", raw='{"ok": true}')
    return events.accepted(
        message, attempt=attempt, provider=PROVIDER, at=after(message, at), response=response
    )


def refused(message: SmsMessage, attempt: int, at: int) -> StatusEvent:
    return events.failed(
        message,
        reason=Reason.INVALID_RECIPIENT,
        at=after(message, at),
        attempt=attempt,
        provider=PROVIDER,
        response=ProviderResponse(code="21211", detail="no such number", raw='{"code": 21211}'),
    )


def receipt(message: SmsMessage, attempt: int, at: int, *, delivered: bool) -> StatusEvent:
    return events.receipt(
        message_id=message.id,
        tenant=message.tenant,
        channel=message.channel,
        provider=PROVIDER,
        attempt=attempt,
        delivered=delivered,
        at=after(message, at),
        response=ProviderResponse(provider_message_id=f"SM{attempt}", code="30003"),
    )


def no_receipt(message: SmsMessage, attempt: int, since: int) -> StatusEvent:
    return events.no_receipt(
        message_id=message.id,
        tenant=message.tenant,
        channel=message.channel,
        provider=PROVIDER,
        attempt=attempt,
        status=Status.SENT,
        since=after(message, since),
        allowed=timedelta(hours=72),
    )


def delivered_life(message: SmsMessage) -> Sequence[StatusEvent]:
    """Queued, one attempt, accepted, delivered."""
    return (
        events.queued(message),
        claimed(message, 1, 20),
        accepted(message, 1, 80),
        receipt(message, 1, 900, delivered=True),
    )
