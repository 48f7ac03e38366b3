"""Each provider's webhook as the provider would send it, for the tests of the receipt endpoint.

A `Webhook` says what makes its requests genuine and which parts its signature covers, so that the
tests know every way in which one can be spoiled.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

from twilio.request_validator import RequestValidator

from consumers.simulator.adapter import SIGNATURE_HEADER, signature
from schemas.vocabulary import Channel
from tests.consumers.contract.http_suite import PUBLIC_URL
from tests.consumers.contract.samples import SECRET
from tests.consumers.email import test_mailgun as mailgun
from tests.consumers.email import test_postmark as postmark
from tests.consumers.email import test_resend as resend
from tests.consumers.email import test_sendgrid as sendgrid
from tests.consumers.email import test_ses_events as ses
from tests.consumers.email.mails import NOW, TO, bytes_of, marked
from tests.consumers.sms import test_aws_sms as aws
from tests.consumers.sms import test_telnyx_sms as telnyx
from tests.consumers.sms import test_twilio_sms as twilio_sms
from tests.consumers.vendors import vonage
from tests.consumers.voice import test_vonage_voice as vonage_voice

PERSON = "+12025550142"


@dataclass(frozen=True, slots=True)
class Post:
    """One request."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""

    def with_header(self, name: str, value: str | None) -> "Post":
        """The same with another header, or without it."""
        rest = {n: v for n, v in self.headers.items() if n.lower() != name.lower()}
        return replace(self, headers=rest if value is None else {**rest, name: value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One provider's.

    Args:
        write: a genuine request that says that a message was delivered, signed at a time.
        hears: one in which a person writes a text; None where nobody can.
        proofs: headers without which it is not genuine.
        covers_body, covers_time, covers_url: what cannot be changed.
    """

    channel: Channel
    name: str
    write: Callable[[UUID, datetime], Post]
    hears: Callable[[str], Post] | None = None
    proofs: tuple[str, ...] = ()
    covers_body: bool = True
    covers_time: bool = True
    covers_url: bool = False

    @property
    def path(self) -> str:
        return f"/receipts/{self.channel}/{self.name}"


def _twilio(channel: Channel, fields: Mapping[str, str], query: str = "") -> Post:
    url = f"{PUBLIC_URL}/receipts/{channel}/twilio{query}"
    signed = RequestValidator(twilio_sms.TOKEN).compute_signature(url, fields)
    kind = "application/x-www-form-urlencoded"
    headers = {"X-Twilio-Signature": signed, "Content-Type": kind}
    return Post(urlencode(fields).encode(), headers, query)


def _twilio_sms(ours: UUID, at: datetime) -> Post:
    del at  # it signs no time
    fields = {"MessageSid": f"SM{ours.hex}", "MessageStatus": "delivered", "To": PERSON}
    return _twilio(Channel.SMS, fields, f"?m={ours}")


def _twilio_voice(ours: UUID, at: datetime) -> Post:
    del at
    fields = {"CallSid": f"CA{ours.hex}", "CallStatus": "completed", "To": PERSON}
    return _twilio(Channel.VOICE, fields, f"?m={ours}")


def _twilio_inbound(text: str) -> Post:
    fields = {"MessageSid": "SM1", "From": PERSON, "To": "+15005550006", "Body": text}
    return _twilio(Channel.SMS, fields)


def _vonage(value: Mapping[str, object], at: datetime = NOW, query: str = "") -> Post:
    body = bytes_of(value)
    return Post(body, vonage.signed_headers(body, iat=int(at.timestamp())), query)


def _vonage_sms(ours: UUID, at: datetime) -> Post:
    value = {"message_uuid": f"v-{ours}", "client_ref": str(ours), "status": "delivered"}
    return _vonage({**value, "to": PERSON[1:], "timestamp": at.isoformat()}, at)


def _vonage_voice(ours: UUID, at: datetime) -> Post:
    body = vonage_voice.event("completed", uuid=str(ours))
    return Post(body, vonage.signed_headers(body, iat=int(at.timestamp())), f"?m={ours}")


def _vonage_inbound(text: str) -> Post:
    return _vonage({"from": PERSON[1:], "to": "15005550006", "text": text, "channel": "sms"})


def _telnyx(kind: str, payload: Mapping[str, object], at: datetime) -> Post:
    data = {"event_type": kind, "occurred_at": at.isoformat(), "payload": payload}
    body = bytes_of({"data": data})
    seconds = int((at - telnyx.NOW).total_seconds())
    return Post(body, telnyx.headers_of(body, seconds=seconds))


def _telnyx_sms(ours: UUID, at: datetime) -> Post:
    url = f"{PUBLIC_URL}/receipts/sms/telnyx?m={ours}"
    payload = telnyx.sent("delivered", id=str(ours), webhook_url=url)
    return _telnyx("message.finalized", payload, at)


def _telnyx_inbound(text: str) -> Post:
    to = [{"phone_number": "+15005550006"}]
    payload = {"from": {"phone_number": PERSON}, "to": to, "text": text}
    return _telnyx("message.received", payload, NOW)


def _sns(body: bytes, at: datetime) -> Post:
    said = {**json.loads(body), "Timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z")}
    return Post(ses.signed({n: v for n, v in said.items() if n != "Signature"}, key=aws.KEY))


def _aws(ours: UUID, at: datetime) -> Post:
    context = {"message_id": str(ours)}
    event = aws.event("TEXT_DELIVERED", context=context, messageId=str(ours))
    return _sns(aws.notification(json.dumps(event)), at)


def _aws_inbound(text: str) -> Post:
    said = {"originationNumber": PERSON, "destinationNumber": "+15005550006", "messageBody": text}
    return Post(aws.notification(json.dumps({**said, "inboundMessageId": "1"})))


def _ses(ours: UUID, at: datetime) -> Post:
    event = ses.event("Delivery", marked(ours), delivery={"recipients": [TO]})
    return Post(ses.signed(ses.notification(json.dumps(event), at=at)))


def _resend(ours: UUID, at: datetime) -> Post:
    body = bytes_of(resend.event("delivered", {"comms_message": marked(ours)}))
    return Post(body, resend.signed(body, at=at))


def _postmark(ours: UUID, at: datetime) -> Post:
    del at
    event = postmark.event("Delivery", marked(ours), Recipient=TO, MessageID=str(ours))
    return Post(bytes_of(event), {"Authorization": postmark.BASIC})


def _sendgrid(ours: UUID, at: datetime) -> Post:
    body = bytes_of([sendgrid.event("delivered", marked(ours))])
    return Post(body, sendgrid.signed(body, at=at))


def _mailgun(ours: UUID, at: datetime) -> Post:
    signed = mailgun.signature(token=ours.hex, at=at)
    return Post(mailgun.request(mailgun.event("delivered", marked(ours)), signed))


def _simulated(ours: UUID, at: datetime) -> Post:
    value = {"id": f"sim-{ours}", "client_ref": str(ours), "status": "delivered"}
    body = bytes_of([{**value, "occurred_at": NOW.isoformat()}])
    said = signature(SECRET, timestamp=int(at.timestamp()), body=body)
    return Post(body, {SIGNATURE_HEADER: said})


WEBHOOKS = (
    Webhook(
        channel=Channel.SMS,
        name="twilio",
        write=_twilio_sms,
        hears=_twilio_inbound,
        proofs=("X-Twilio-Signature",),
        covers_time=False,
        covers_url=True,
    ),
    Webhook(
        channel=Channel.VOICE,
        name="twilio",
        write=_twilio_voice,
        proofs=("X-Twilio-Signature",),
        covers_time=False,
        covers_url=True,
    ),
    Webhook(
        channel=Channel.SMS,
        name="vonage",
        write=_vonage_sms,
        hears=_vonage_inbound,
        proofs=("authorization",),
    ),
    Webhook(channel=Channel.VOICE, name="vonage", write=_vonage_voice, proofs=("authorization",)),
    Webhook(
        channel=Channel.SMS,
        name="telnyx",
        write=_telnyx_sms,
        hears=_telnyx_inbound,
        proofs=("telnyx-timestamp", "telnyx-signature-ed25519"),
    ),
    Webhook(channel=Channel.SMS, name="aws", write=_aws, hears=_aws_inbound),
    Webhook(
        channel=Channel.EMAIL,
        name="resend",
        write=_resend,
        proofs=("svix-id", "svix-timestamp", "svix-signature"),
    ),
    Webhook(
        channel=Channel.EMAIL,
        name="postmark",
        write=_postmark,
        proofs=("Authorization",),
        covers_body=False,
        covers_time=False,
    ),
    Webhook(
        channel=Channel.EMAIL,
        name="sendgrid",
        write=_sendgrid,
        proofs=(sendgrid.SIGNATURE, sendgrid.TIMESTAMP),
    ),
    Webhook(channel=Channel.EMAIL, name="mailgun", write=_mailgun, covers_body=False),
    Webhook(channel=Channel.EMAIL, name="ses", write=_ses),
    Webhook(channel=Channel.SMS, name="simulated", write=_simulated, proofs=(SIGNATURE_HEADER,)),
)

# The tables and the variables with which all of them can be proved.
CONFIG = f"""
[[sms.providers]]
name = "twilio"
from = "+15005550006"
[[sms.providers]]
name = "vonage"
from = "Acme"
[[sms.providers]]
name = "telnyx"
from = "+15005550006"
[[sms.providers]]
name = "aws"
region = "eu-west-1"
topic_arn = "{aws.ARN}"
[[sms.providers]]
name = "simulated"
[[voice.providers]]
name = "twilio"
from = "+15005550006"
[[voice.providers]]
name = "vonage"
from = "+15005550006"
[[email.providers]]
name = "resend"
from = "news@acme.example"
[[email.providers]]
name = "postmark"
from = "news@acme.example"
[[email.providers]]
name = "sendgrid"
from = "news@acme.example"
[[email.providers]]
name = "mailgun"
domain = "mg.acme.example"
from = "news@acme.example"
[[email.providers]]
name = "ses"
region = "eu-west-1"
from = "news@acme.example"
configuration_set = "receipts"
topic_arn = "{ses.ARN}"
"""
ENVIRONMENT = {
    "TWILIO_AUTH_TOKEN": twilio_sms.TOKEN,
    "VONAGE_SIGNATURE_SECRET": vonage.SIGNATURE_SECRET,
    "TELNYX_PUBLIC_KEY": base64.b64encode(telnyx.KEY.public_key().public_bytes_raw()).decode(),
    "RESEND_WEBHOOK_SECRET": resend.SECRET,
    "POSTMARK_WEBHOOK_SECRET": postmark.SECRET,
    "SENDGRID_WEBHOOK_PUBLIC_KEY": sendgrid.spki(sendgrid.KEY),
    "MAILGUN_WEBHOOK_SIGNING_KEY": mailgun.KEY,
}
