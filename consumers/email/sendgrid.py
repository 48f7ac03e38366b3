"""E-mail by Twilio SendGrid: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send

The runner calls it like every provider. SendGrid only queues a mail: what is wrong with its
recipient is told by an event. Its errors have no codes, so the field that one names stands for it.
Events come many at once, signed as a whole with ECDSA, and each may come more than once.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import Secret
from consumers.email.parts import (
    MARK,
    encoded,
    mark_of,
    ours,
    parts_of,
    sender_option,
    written,
)
from consumers.sdk.error_codes import (
    CONTENT,
    GONE,
    NOBODY,
    OPTED_OUT,
    REJECTED,
    SENDER,
    TRANSIENT,
    Classifier,
    ErrorTable,
    Fault,
    Meaning,
    reason_of_failure,
)
from consumers.sdk.http_provider import (
    HttpProvider,
    Request,
    bearer,
    json_object,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.outcomes import Accepted, Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_and_test
from consumers.sdk.receipts import (
    BadSignatureError,
    Receipt,
    UnmatchedReceipt,
    UnreadableReceiptError,
    check_signature_age,
    moment,
)
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage
from schemas.vocabulary import Mode, Reason, SuppressionReason

BASE_URL = "https://api.sendgrid.com"  # https://api.eu.sendgrid.com for subusers in the EU
SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"

# The fields of errors, their numbers left out; and events with their type or reason:
# https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
CODES = ErrorTable(
    source="https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/errors",
    codes={
        "personalizations.to": NOBODY,
        "personalizations.to.email": NOBODY,
        "from": SENDER,
        "from.email": SENDER,
        # Events
        "bounce bounce": GONE,
        "bounce blocked": REJECTED,
        "bounce expired": TRANSIENT,
        "bounce": REJECTED,
        "dropped": REJECTED,
        "dropped Invalid": GONE,
        "dropped Bounced Address": GONE,
        "dropped Unsubscribed Address": OPTED_OUT,
        "dropped Spam Reporting Address": Meaning(
            fault=Fault.PERMANENT, reason=Reason.SUPPRESSED, suppress=SuppressionReason.COMPLAINT
        ),
        "dropped Spam Content": CONTENT,
        "dropped Invalid SMTPAPI header": CONTENT,
        "dropped Recipient List over Package Quota": REJECTED,
    },
    statuses={400: CONTENT},
)

_TAKEN: Mapping[str, SuppressionReason | None] = {
    "delivered": None,
    "spamreport": SuppressionReason.COMPLAINT,  # who complains or unsubscribes has the mail
    "unsubscribe": SuppressionReason.OPT_OUT,
}
_NUMBERS = re.compile(r"\.\d+|\[\d+\]")


class SendGrid:
    """The dialect.

    Args:
        sender: the From of messages that name none.
    """

    def __init__(
        self,
        *,
        base_url: str,
        key: Secret,
        sender: str,
        classifier: Classifier,
        clock: Clock = utc_now,
    ) -> None:
        self._base_url, self._sender, self._headers = base_url, sender, bearer(key)
        self._classifier, self._clock = classifier, clock

    async def request(self, message: EmailMessage, attempt: Attempt) -> Request | Outcome:
        del attempt  # SendGrid has no idempotency key
        return await written(message, lambda: self._write(message))

    def read(self, message: EmailMessage, answer: Answer) -> Outcome:
        if 200 <= answer.status < 300:
            id_ = text_or_none(answer.headers.get("X-Message-Id"))
            text = answer.text or f"{answer.status}, X-Message-Id: {id_}"
            return Accepted(
                response=ProviderResponse(
                    provider_message_id=id_, code=str(answer.status), raw=text
                )
            )
        return self._classifier.outcome(
            _provider_response(answer),
            status=answer.status,
            retry_after=answer.retry_after() or self._until_reset(answer),
            own_sender=message.sender is not None,
        )

    def probe(self) -> Request:
        """What the key may do; every key may ask."""
        return Request(method="GET", url=f"{self._base_url}/v3/scopes", headers=self._headers)

    def _until_reset(self, answer: Answer) -> float | None:
        """Seconds until the limit of a rate begins anew, where the answer says so."""
        reset = answer.headers.get("X-RateLimit-Reset", "").strip()
        if answer.status != 429 or not reset.isdecimal():
            return None
        return max(1.0, float(reset) - self._clock().timestamp())

    def _write(self, message: EmailMessage) -> Request:
        parts = parts_of(message, default_from=self._sender)
        recipients = {"to": [parts.to], "cc": parts.cc, "bcc": parts.bcc}
        envelope: dict[str, object] = {n: _named(them) for n, them in recipients.items() if them}
        # Here, and not beside it, where SendGrid's own OpenAPI document wants a text.
        envelope["custom_args"] = {MARK: mark_of(message)}
        value: dict[str, object] = {
            "personalizations": [envelope],
            "from": _named([parts.sender])[0],
            "subject": message.subject,
            "content": [{"type": kind, "value": text} for kind, text in parts.bodies],
        }
        if parts.reply_to is not None:
            value["reply_to"] = _named([parts.reply_to])[0]
        if parts.headers:
            value["headers"] = dict(parts.headers)
        if message.mode is Mode.TEST:  # checked, and answered 200 in place of 202
            value["mail_settings"] = {"sandbox_mode": {"enable": True}}
        if message.attachments:
            value["attachments"] = [
                {
                    "content": encoded(one),
                    "filename": one.filename,
                    "type": one.content_type,
                    **(
                        {"disposition": "inline", "content_id": one.content_id}
                        if one.content_id
                        else {}
                    ),
                }
                for one in message.attachments
            ]
        return json_request(f"{self._base_url}/v3/mail/send", value, self._headers)


class SendGridReceipts:
    """Reads events, which are JSON arrays, signed with the key that SendGrid shows."""

    def __init__(
        self, key: ec.EllipticCurvePublicKey, *, classifier: Classifier, clock: Clock
    ) -> None:
        self._key, self._classifier, self._clock = key, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Receipt]:
        del url  # it is not signed
        now = self._clock()
        _verify(headers, body, key=self._key, now=now)
        found: list[Receipt] = []
        for event in _events(body):
            said = self._unplaced(event, now)
            if said is not None:
                found += ours(said, mark=event.get(MARK), recipient=event.get("email"))
        return found

    def _unplaced(self, event: Mapping[str, object], now: datetime) -> UnmatchedReceipt | None:
        kind = str(event.get("event"))
        if kind not in ("bounce", "dropped") and kind not in _TAKEN:
            return None  # on its way, or looked at
        code = _code_of(event)
        meaning = None if kind in _TAKEN else self._classifier.of_receipt(code) or REJECTED
        return UnmatchedReceipt(
            delivered=meaning is None,
            occurred_at=moment(event.get("timestamp"), otherwise=now),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else _TAKEN[kind],
            response=ProviderResponse(
                # X-Message-Id, and what SendGrid's machines append to it
                provider_message_id=str(event.get("sg_message_id") or "").partition(".")[0] or None,
                code=code,
                detail=text_or_none(event.get("response") or event.get("reason")),
                raw=json.dumps(event, ensure_ascii=False),
            ),
        )


def _verify(
    headers: Mapping[str, str], body: bytes, *, key: ec.EllipticCurvePublicKey, now: datetime
) -> None:
    sent = headers.get(TIMESTAMP_HEADER, "")
    check_signature_age(sent, now=now)
    try:
        signature = base64.b64decode(headers.get(SIGNATURE_HEADER, ""), validate=True)
        key.verify(signature, sent.encode() + body, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise BadSignatureError("the signature is not the provider's") from error


def _events(body: bytes) -> Iterable[Mapping[str, object]]:
    """The events of a request, each once.

    Raises:
        UnreadableReceiptError: it has none.
    """
    try:
        events = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableReceiptError("no JSON") from error
    if not isinstance(events, list) or not all(isinstance(one, dict) for one in events):
        raise UnreadableReceiptError("no array of events")
    return {str(one.get("sg_event_id") or n): one for n, one in enumerate(events)}.values()


def _code_of(event: Mapping[str, object]) -> str:
    """An event with what tells its kind: a bounce has a type, a mail that is dropped a reason."""
    kind = str(event.get("event"))
    about = event.get({"bounce": "type", "dropped": "reason"}.get(kind, ""))
    return f"{kind} {about}" if about else kind


def _named(addresses: Iterable[Address]) -> list[dict[str, str]]:
    return [
        {"email": one.addr_spec, **({"name": one.display_name} if one.display_name else {})}
        for one in addresses
    ]


def _provider_response(answer: Answer) -> ProviderResponse:
    errors = json_object(answer.text).get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    said = first if isinstance(first, dict) else {}
    field = _NUMBERS.sub("", str(said.get("field") or ""))
    return ProviderResponse(
        # Other fields are no codes: the status judges them.
        code=field if field in CODES.codes else str(answer.status),
        detail=text_or_none(said.get("message")),
        raw=answer.text,
    )


def _build(setup: ProviderContext) -> HttpProvider[EmailMessage]:
    options, transport = setup.options, transport_of(setup)
    options.others("webhook_public_key_env")
    key = options.secret("api_key_env", "SENDGRID_API_KEY")
    base_url, sender = options.url("base_url", BASE_URL), sender_option(options)
    options.done()
    classifier = Classifier(CODES, channel=setup.channel, provider=setup.name)
    dialect = SendGrid(base_url=base_url, key=key, sender=sender, classifier=classifier)
    return HttpProvider(setup.name, dialect, transport)


def _receipts(setup: ProviderContext, clock: Clock) -> SendGridReceipts:
    setup.options.others("timeout_seconds", "api_key_env", "base_url", "from")
    text = setup.options.secret("webhook_public_key_env", "SENDGRID_WEBHOOK_PUBLIC_KEY")
    setup.options.done()
    classifier = Classifier(CODES, channel=setup.channel, provider=setup.name)
    return SendGridReceipts(_public_key(text.value, setup), classifier=classifier, clock=clock)


def _public_key(text: str, setup: ProviderContext) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise setup.options.wrong("webhook_public_key_env", "must hold the verification key")
    return key


SENDGRID = ProviderType(build=_build, receipts=_receipts, modes=live_and_test)
