"""A busy day of a tenant, for the page's tests and its picture: every channel and every outcome."""

import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from audit import merge
from schemas import events
from schemas.events import ProviderResponse, StatusEvent
from schemas.ids import new_message_id
from schemas.messages import EmailMessage, Envelope, PushMessage, SmsMessage, VoiceMessage
from schemas.vocabulary import Reason

WORKFLOWS = ("order-confirmation", "delivery-notice", "sign-in-code", "appointment-reminder")
PROVIDERS = {"sms": "twilio", "email": "smtp", "push": "fcm", "voice": "simulated"}


def play(connection: merge.Connection, *, now: datetime, count: int = 400) -> UUID:
    """Record the day; return the id of a message that failed after a retry."""
    dice = random.Random(7)
    recorded: list[StatusEvent] = []
    for n in range(count):
        age = timedelta(seconds=3 + dice.expovariate(1 / 9000) * (n / count + 0.02))
        message = _message(n, now - min(age, timedelta(hours=20)), dice)
        recorded += _life(message, dice, now)
    failed = _message(1, now - timedelta(minutes=4), dice)
    recorded += _refused_life(failed)
    merge.merge(connection, recorded, {})
    _report(connection)
    _wait(connection, [_message(n, now - timedelta(seconds=1 + n / 3), dice) for n in range(9)])
    return failed.id


def _message(n: int, at: datetime, dice: random.Random) -> Envelope:
    base = {
        "id": new_message_id(int(at.timestamp() * 1000)),
        "tenant": "acme",
        "created_at": at,
        "customer_id": f"cust-{dice.randrange(1000, 9999)}",
        "workflow": dice.choice(WORKFLOWS),
        "metadata": {"order": f"{dice.randrange(10**6):06}"},
    }
    number = f"+1202555{dice.randrange(110, 199):04}"
    name = dice.choice(("ada", "grace", "edsger", "barbara", "donald", "leslie"))
    match n % 8:
        case 0 | 1 | 4:
            return SmsMessage(to=number, body="x", **base)  # type: ignore[arg-type]
        case 2 | 3 | 5:
            address = f"{name}.{dice.randrange(99)}@example.com"
            return EmailMessage(to=address, subject="x", text="x", **base)  # type: ignore[arg-type]
        case 6:
            token = f"fMEQ{dice.getrandbits(256):064x}"
            return PushMessage(title="x", body="x", tokens=(token,), **base)  # type: ignore[arg-type]
        case _:
            return VoiceMessage(to=number, text="x", **base)  # type: ignore[arg-type]


def _life(message: Envelope, dice: random.Random, now: datetime) -> list[StatusEvent]:
    provider = PROVIDERS[message.channel]

    def at(milliseconds: float) -> datetime:
        return message.created_at + timedelta(milliseconds=milliseconds)

    response = ProviderResponse(provider_message_id=f"SM{message.id.hex[-20:]}", raw='{"ok": true}')
    whole = [
        events.queued(message),
        events.claimed(message, attempt=1, provider=provider, at=at(dice.uniform(8, 40))),
        events.accepted(
            message,
            attempt=1,
            provider=provider,
            at=at(dice.uniform(80, 400)),
            response=response,
        ),
        events.receipt(
            message_id=message.id,
            tenant=message.tenant,
            channel=message.channel,
            provider=provider,
            attempt=1,
            delivered=dice.random() > 0.05,
            at=at(dice.uniform(900, 4000)),
            response=replace(response, raw=None),
        ),
    ]
    if message.channel == "email":
        whole = whole[:3]
    return [event for event in whole if event.occurred_at <= now]


def _refused_life(message: Envelope) -> list[StatusEvent]:
    def at(seconds: float) -> datetime:
        return message.created_at + timedelta(seconds=seconds)

    busy = ProviderResponse(
        code="20503",
        detail="Service unavailable, try again",
        raw='{"code": 20503, "message": "Service unavailable, try again", "status": 503}',
    )
    no = ProviderResponse(
        code="21211",
        detail="The 'To' number is not a valid phone number.",
        raw='{"code": 21211, "message": "The \'To\' number is not a valid phone number.",'
        ' "more_info": "https://www.twilio.example/docs/errors/21211", "status": 400}',
    )
    return [
        events.queued(message),
        events.claimed(message, attempt=1, provider="twilio", at=at(0.02)),
        events.deferred(
            message,
            attempt=1,
            provider="twilio",
            at=at(0.31),
            reason=Reason.PROVIDER_ERROR,
            response=busy,
        ),
        events.claimed(message, attempt=2, provider="twilio", at=at(2.4)),
        events.failed(
            message,
            reason=Reason.INVALID_RECIPIENT,
            attempt=2,
            provider="twilio",
            at=at(2.62),
            response=no,
        ),
    ]


def _report(connection: merge.Connection) -> None:
    """Insert what the channel processes report about themselves."""
    reports = {
        "sms": ("live", None, 3),
        "email": ("live", None, 0),
        "push": ("degraded", "fcm: connection refused", 41),
        "voice": ("simulated", None, 1),
    }
    for channel, (readiness, problem, lag) in reports.items():
        provider = {
            "name": PROVIDERS[channel],
            "kind": PROVIDERS[channel],
            "readiness": readiness,
            "problem": problem,
            "weight": 100,
        }
        connection.execute(
            "INSERT INTO consumers.worker (owner, channel, seen_at, in_flight, lag_messages,"
            " lag_seconds, providers) VALUES (%s, %s, now() + interval '1 hour', %s, %s, %s, %s)",
            (uuid4(), channel, lag * 2, lag, lag / 8, json.dumps([provider])),
        )


def _wait(connection: merge.Connection, messages: list[Envelope]) -> None:
    """Insert messages that are accepted and not claimed yet."""
    for message in messages:
        connection.execute(
            "INSERT INTO producer.message (id, tenant, body_hash, channel, recipient, customer_id,"
            " workflow, priority, created_at) VALUES (%s, %s, '', %s, %s, %s, %s, 'normal', %s)",
            (
                *(message.id, message.tenant, message.channel, message.recipient),
                *(message.customer_id, message.workflow, message.created_at),
            ),
        )
        connection.execute(
            "INSERT INTO producer.outbox (message_id, topic, key, value, enqueued_at)"
            " VALUES (%s, %s, %s, '', %s)",
            (message.id, f"comms.{message.channel}", message.key, message.created_at),
        )
