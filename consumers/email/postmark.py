"""E-mail by Postmark: https://postmarkapp.com/developer/api/email-api

The runner calls it like every provider. An error has an `ErrorCode`, which counts whatever the HTTP
status is. Addresses that bounced or complained are inactive there: a mail to one is refused, and
one with inactive copies goes out to the others. Webhooks are not signed; what proves them is a
secret of ours, in HTTP Basic or in a header.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from comms.platform.clock import Clock
from comms.platform.settings import Secret
from consumers.email.parts import (
    MARK,
    EmailApiOptions,
    encoded,
    mark_of,
    ours,
    parts_of,
    written,
)
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    GONE,
    INVALID_RECIPIENT,
    LIMITED,
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
    basic_auth,
    json_object,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import HttpsUrl, SecretVariable, Text, secret_variable
from consumers.sdk.outcomes import Outcome, accepted_or_ambiguous
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_and_test
from consumers.sdk.receipts import (
    BadSignatureError,
    Receipt,
    UnmatchedReceipt,
    UnreadableReceiptError,
    moment,
)
from consumers.suppression import normal
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage
from schemas.vocabulary import Channel, Mode, Reason, SuppressionReason

BASE_URL = "https://api.postmarkapp.com"
TEST_TOKEN = "POSTMARK_API_TEST"  # noqa: S105 - of everybody: what is sent with it is only checked
INACTIVE = "406"

_INACTIVE = Meaning(  # it bounced or complained before, or was put on the list by hand
    fault=Fault.PERMANENT, reason=Reason.SUPPRESSED, suppress=SuppressionReason.HARD_BOUNCE
)

# Error codes, 300 with the field that its message names, and types of bounces.
CODES = ErrorTable(
    source="https://postmarkapp.com/developer/api/overview#error-codes",
    codes={
        # The recipient and the content
        "300 To": INVALID_RECIPIENT,
        INACTIVE: _INACTIVE,
        "300": CONTENT,
        "402": CONTENT,  # no JSON
        "403": CONTENT,  # JSON of another shape
        "411": CONTENT,  # a kind of attachment that is forbidden
        # The sender
        "300 From": SENDER,
        "400": SENDER,  # no such sender signature
        "401": SENDER,  # one that is not confirmed
        # The account
        "10": ACCOUNT,
        "405": ACCOUNT,  # no credit
        "409": ACCOUNT,  # not understood as JSON at all
        "412": ACCOUNT,  # not approved yet
        "413": ACCOUNT,  # may not send
        # The moment
        "100": TRANSIENT,
        "429": LIMITED,
        # Bounces: https://postmarkapp.com/developer/api/bounce-api#bounce-types
        "HardBounce": GONE,
        "BadEmailAddress": GONE,
        "ManuallyDeactivated": _INACTIVE,
        "Unsubscribe": OPTED_OUT,
        "SoftBounce": TRANSIENT,
        "Blocked": REJECTED,
        "SpamNotification": REJECTED,
        "DMARCPolicy": REJECTED,
        "Unconfirmed": REJECTED,
        "SMTPApiError": REJECTED,
        "VirusNotification": CONTENT,
        "TemplateRenderingFailed": CONTENT,
        "Unknown": TRANSIENT,
    },
)

# Bounces after which Postmark goes on trying, and answers of machines.
_NO_BOUNCE = frozenset(
    {
        *("Transient", "DnsError", "OpenRelayTest", "Subscribe", "InboundError"),
        *("AutoResponder", "AddressChange", "ChallengeVerification"),
    }
)
_FIELD = re.compile(r"(?:Invalid|Error parsing) '(To|From)'")
# "Message OK, but will not deliver to these inactive addresses: a@b, c@d. Inactive recipients …"
_INACTIVE_ADDRESSES = re.compile(r"inactive addresses:\s*([^\s,]+(?:,\s*[^\s,]+)*)")


class Postmark:
    """Writes the requests of the API and reads its answers.

    Args:
        sender: the From of messages that name none; stream: the message stream, by its id.
    """

    def __init__(
        self, *, base_url: str, token: Secret, sender: str, stream: str, classifier: Classifier
    ) -> None:
        self._base_url, self._sender, self._stream = base_url, sender, stream
        self._headers = {"X-Postmark-Server-Token": token.value, "Accept": "application/json"}
        self._classifier = classifier

    async def request(self, message: EmailMessage, attempt: Attempt) -> Request | Outcome:
        del attempt  # Postmark has no idempotency key
        return await written(message, lambda: self._write(message))

    def read(self, message: EmailMessage, answer: Answer) -> Outcome:
        said = json_object(answer.text)
        inactive = _inactive(said)
        reached = normal(Channel.EMAIL, message.to) not in inactive
        response = _provider_response(said, answer, inactive=len(inactive), reached=reached)
        if 200 <= answer.status < 300 and said.get("ErrorCode", 0) == 0 and reached:
            return accepted_or_ambiguous(response)
        return self._classifier.outcome(
            response,
            status=answer.status,
            retry_after=answer.retry_after(),
            own_sender=message.sender is not None,
        )

    def probe(self) -> Request:
        return Request(method="GET", url=f"{self._base_url}/server", headers=self._headers)

    def _write(self, message: EmailMessage) -> Request:
        parts = parts_of(message, default_from=self._sender)
        fields = {"text/plain": "TextBody", "text/html": "HtmlBody"}
        value: dict[str, object] = {
            "From": str(parts.sender),
            "To": str(parts.to),
            "Subject": message.subject,
            **{fields[kind]: text for kind, text in parts.bodies},
            "MessageStream": self._stream,
            "Metadata": {MARK: mark_of(message)},
        }
        for name, copies in (("Cc", parts.cc), ("Bcc", parts.bcc)):
            if copies:
                value[name] = ", ".join(map(str, copies))
        if parts.reply_to is not None:
            value["ReplyTo"] = str(parts.reply_to)
        if parts.headers:
            value["Headers"] = [{"Name": name, "Value": text} for name, text in parts.headers]
        if message.attachments:
            value["Attachments"] = [
                {
                    "Name": one.filename,
                    "Content": encoded(one),
                    "ContentType": one.content_type,
                    **({"ContentID": f"cid:{one.content_id}"} if one.content_id else {}),
                }
                for one in message.attachments
            ]
        token = {"X-Postmark-Server-Token": TEST_TOKEN} if message.mode is Mode.TEST else {}
        return json_request(f"{self._base_url}/email", value, {**self._headers, **token})


class PostmarkReceipts:
    """Reads webhooks, which are JSON, one event each.

    Args:
        header, secret: the header that proves them, in small letters, and what it must hold.
    """

    def __init__(
        self, header: str, secret: Secret, *, classifier: Classifier, clock: Clock
    ) -> None:
        self._header, self._secret = header, secret
        self._classifier, self._clock = classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Receipt]:
        del url  # nothing is signed
        said = headers.get(self._header, "").encode()
        if not hmac.compare_digest(said, self._secret.value.encode()):
            raise BadSignatureError(f"{self._header} does not hold the secret")
        event = json_object(body)
        if not event:
            raise UnreadableReceiptError("no event")
        found = self._unplaced(event, body.decode("utf-8", "replace"), self._clock())
        if found is None:
            return []
        metadata = event.get("Metadata")
        mark = metadata.get(MARK) if isinstance(metadata, dict) else None
        return ours(found, mark=mark, recipient=event.get("Recipient") or event.get("Email"))

    def _unplaced(
        self, event: Mapping[str, object], raw: str, now: datetime
    ) -> UnmatchedReceipt | None:
        match event.get("RecordType"):
            case "Delivery":
                return _said(event, raw, at=moment(event.get("DeliveredAt"), otherwise=now))
            case "SpamComplaint":
                at = moment(event.get("BouncedAt"), otherwise=now)
                return _said(event, raw, at=at, suppress=SuppressionReason.COMPLAINT)
            case "SubscriptionChange" if _unsubscribed(event):
                at = moment(event.get("ChangedAt"), otherwise=now)
                return _said(event, raw, at=at, suppress=SuppressionReason.OPT_OUT)
            case "Bounce" if event.get("Type") not in _NO_BOUNCE:
                at = moment(event.get("BouncedAt"), otherwise=now)
                meaning = self._classifier.of_receipt(text_or_none(event.get("Type")))
                return _said(event, raw, at=at, meaning=meaning or REJECTED)
            case _:
                return None


def _said(
    event: Mapping[str, object],
    raw: str,
    *,
    at: datetime,
    meaning: Meaning | None = None,
    suppress: SuppressionReason | None = None,
) -> UnmatchedReceipt:
    """What an event says: a failure where it has a meaning, else that the mail arrived."""
    return UnmatchedReceipt(
        delivered=meaning is None,
        occurred_at=at,
        reason=reason_of_failure(meaning),
        suppress=meaning.suppress if meaning else suppress,
        response=ProviderResponse(
            provider_message_id=text_or_none(event.get("MessageID")),
            code=text_or_none(event.get("Type")) or text_or_none(event.get("RecordType")),
            detail=text_or_none(event.get("Details")) or text_or_none(event.get("Description")),
            raw=raw,
        ),
    )


def _unsubscribed(event: Mapping[str, object]) -> bool:
    """Whether the person did it; bounces and complaints change subscriptions too, and tell so
    themselves."""
    return event.get("SuppressSending") is True and (
        (event.get("SuppressionReason"), event.get("Origin")) == ("ManualSuppression", "Recipient")
    )


def _inactive(said: Mapping[str, object]) -> frozenset[str]:
    """The addresses, in small letters, to which a mail that was taken does not go."""
    if said.get("ErrorCode") != 0:
        return frozenset()
    found = _INACTIVE_ADDRESSES.search(str(said.get("Message")))
    named = found[1].rstrip(".").split(",") if found else []
    return frozenset(one.strip().lower() for one in named)


def _provider_response(
    said: Mapping[str, object], answer: Answer, *, inactive: int, reached: bool
) -> ProviderResponse:
    detail = text_or_none(said.get("Message"))
    if inactive:
        detail = f"{inactive} of the recipients inactive" + ("" if reached else ", `to` among them")
    return ProviderResponse(
        provider_message_id=text_or_none(said.get("MessageID")),
        code=_code(text_or_none(said.get("ErrorCode")), detail or "") if reached else INACTIVE,
        detail=detail,
        raw=answer.text,
    )


def _code(code: str | None, detail: str) -> str | None:
    """None where the answer is not Postmark's own: its codes look like HTTP's, and are not."""
    field = _FIELD.match(detail) if code == "300" else None
    return f"300 {field[1]}" if field else code


class PostmarkOptions(EmailApiOptions):
    """The server at Postmark, and how its webhooks prove themselves.

    Attributes:
        server_token_env: the token of the server.
        message_stream: the stream of the messages.
        webhook_secret_env: the password of webhooks, or the value of `webhook_header`.
        webhook_user: the user of webhooks, with HTTP Basic.
        webhook_header: the header that carries the secret, in place of HTTP Basic.
        base_url: the address of the API.
    """

    server_token_env: SecretVariable = secret_variable("POSTMARK_SERVER_TOKEN")
    message_stream: Text = "outbound"
    webhook_secret_env: SecretVariable = secret_variable("POSTMARK_WEBHOOK_SECRET")
    webhook_user: Text = "postmark"
    webhook_header: Text | None = None
    base_url: HttpsUrl = BASE_URL


def _build(context: ProviderContext[PostmarkOptions]) -> HttpProvider[EmailMessage]:
    options = context.options
    codec = Postmark(
        base_url=options.base_url,
        token=options.server_token_env.secret(),
        sender=options.sender,
        stream=options.message_stream,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    return HttpProvider(context.name, codec, transport_of(context))


def _receipts(context: ProviderContext[PostmarkOptions], clock: Clock) -> PostmarkReceipts:
    options = context.options
    secret, header = options.webhook_secret_env.secret(), options.webhook_header
    if header is None:
        header = "authorization"
        secret = Secret(basic_auth(options.webhook_user, secret)["Authorization"])
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    return PostmarkReceipts(header.lower(), secret, classifier=classifier, clock=clock)


POSTMARK = ProviderType(
    options=PostmarkOptions, build=_build, receipts=_receipts, modes=live_and_test
)
