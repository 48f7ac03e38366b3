"""Messages for the tests of the producer."""

from datetime import UTC, datetime, timedelta

from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Priority


def sms(
    body: str = "hello",
    *,
    to: str = "+12025550100",
    in_minutes: float = 0,
    priority: Priority = Priority.NORMAL,
) -> SmsMessage:
    """Return a text message, to be sent in some minutes."""
    now = datetime.now(UTC)
    return SmsMessage(
        id=new_message_id(),
        tenant="acme",
        created_at=now,
        to=to,
        body=body,
        priority=priority,
        send_at=now + timedelta(minutes=in_minutes) if in_minutes else None,
    )
