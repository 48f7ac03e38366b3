"""E-mail by Mailgun: https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages

The runner calls it like every provider. Mailgun is given the whole mail as `consumers.email.mime`
writes it, in a form beside its recipients. Its errors have no codes. What it signs of a webhook is
a time and a token, and not what the webhook says, so that each token is good for one body only.
"""

import hmac
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

from comms.platform.clock import Clock
from comms.platform.settings import Secret
from consumers.email.mime import compose
from consumers.email.parts import MARK, mark_of, ours, sender_option, written
from consumers.sdk.error_codes import (
    ACCOUNT,
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
    basic_auth,
    json_object,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_and_test
from consumers.sdk.receipts import (
    SIGNATURE_AGE_SECONDS,
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

BASE_URL = "https://api.mailgun.net"  # https://api.eu.mailgun.net for domains in the EU

# The field that an error names, and events with their reason:
# https://documentation.mailgun.com/docs/mailgun/user-manual/events/events
CODES = ErrorTable(
    source="https://documentation.mailgun.com/docs/mailgun/api-reference/mg-errors",
    codes={
        "to": NOBODY,
        "from": SENDER,
        # Events
        "failed bounce": GONE,
        "failed suppress-bounce": Meaning(
            fault=Fault.PERMANENT,
            reason=Reason.SUPPRESSED,
            suppress=SuppressionReason.HARD_BOUNCE,
        ),
        "failed suppress-complaint": Meaning(
            fault=Fault.PERMANENT, reason=Reason.SUPPRESSED, suppress=SuppressionReason.COMPLAINT
        ),
        "failed suppress-unsubscribe": OPTED_OUT,
        "failed generic": REJECTED,
        "failed espblock": REJECTED,
        "failed old": TRANSIENT,  # it tried for as long as it does
        "failed": REJECTED,
        "rejected": REJECTED,
    },
    statuses={400: CONTENT, 404: ACCOUNT},  # 404: no such domain
)

_TAKEN: Mapping[str, SuppressionReason | None] = {
    "delivered": None,
    "complained": SuppressionReason.COMPLAINT,  # who complains or unsubscribes has the mail
    "unsubscribed": SuppressionReason.OPT_OUT,
}
_FIELD = re.compile(r"\b(to|from)'? parameter", re.IGNORECASE)


class Mailgun:
    """The dialect.

    Args:
        domain: the one that is set up there; sender: the From of messages that name none.
    """

    def __init__(
        self, *, base_url: str, domain: str, key: Secret, sender: str, classifier: Classifier
    ) -> None:
        self._url = f"{base_url}/v3/{quote(domain, safe='')}/messages.mime"
        self._headers, self._sender = basic_auth("api", key), sender
        self._classifier = classifier

    async def request(self, message: EmailMessage, attempt: Attempt) -> Request | Outcome:
        del attempt  # Mailgun has no idempotency key
        return await written(message, lambda: self._write(message))

    def read(self, message: EmailMessage, answer: Answer) -> Outcome:
        response = _provider_response(message, answer)
        return self._classifier.answered(response, answer, own_sender=message.sender is not None)

    def probe(self) -> Request:
        """A mail of nothing to nobody: the answer to a good key is that something is missing. Keys
        that may only send may ask for nothing else."""
        return Request(url=self._url, headers=self._headers)

    def _write(self, message: EmailMessage) -> Request:
        mail = compose(message, default_from=self._sender)
        fields = {"to": ", ".join((mail.to, *mail.others)), f"v:{MARK}": mark_of(message)}
        if message.mode is Mode.TEST:  # taken, accounted for and never delivered
            fields["o:testmode"] = "yes"
        kind, body = _multipart(fields, mail.content)
        return Request(url=self._url, headers={**self._headers, "Content-Type": kind}, body=body)


class MailgunReceipts:
    """Reads webhooks, which are JSON, one event each."""

    def __init__(self, key: Secret, *, classifier: Classifier, clock: Clock) -> None:
        self._key, self._classifier, self._clock = key, classifier, clock
        self._tokens = _Tokens()

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Receipt]:
        del headers, url  # nothing of them is signed
        now, value = self._clock(), json_object(body)
        self._verify(value.get("signature"), body, now)
        event = value.get("event-data")
        if not isinstance(event, dict):
            raise UnreadableReceiptError("no event")
        said = self._unplaced(event, now)
        if said is None:
            return []
        mark = _within(event, "user-variables").get(MARK)
        return ours(said, mark=mark, recipient=event.get("recipient") or _headers(event).get("to"))

    def _verify(self, signed: object, body: bytes, now: datetime) -> None:
        said = signed if isinstance(signed, dict) else {}
        sent, token = str(said.get("timestamp")), str(said.get("token"))
        check_signature_age(sent, now=now)
        text = f"{sent}{token}".encode("utf-8", "replace")  # JSON may hold what UTF-8 cannot
        expected = hmac.new(self._key.value.encode(), text, sha256)
        found = str(said.get("signature")).encode("utf-8", "replace")
        if not hmac.compare_digest(found, expected.hexdigest().encode()):
            raise BadSignatureError("the signature is not the provider's")
        self._tokens.spend(token, body, now=now.timestamp())

    def _unplaced(self, event: Mapping[str, object], now: datetime) -> UnmatchedReceipt | None:
        kind, reason = str(event.get("event")), text_or_none(event.get("reason"))
        if kind not in ("rejected", *_TAKEN) and not (
            # Mailgun calls the failure after its last try temporary too.
            kind == "failed" and (event.get("severity") == "permanent" or reason == "old")
        ):
            return None  # on its way, or looked at
        code = f"{kind} {reason}" if kind == "failed" and reason else kind
        meaning = None if kind in _TAKEN else self._classifier.of_receipt(code) or REJECTED
        return UnmatchedReceipt(
            delivered=meaning is None,
            occurred_at=moment(event.get("timestamp"), otherwise=now),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else _TAKEN[kind],
            response=ProviderResponse(
                provider_message_id=_bare(_headers(event).get("message-id")),
                code=code,
                detail=_detail(event),
                raw=json.dumps(event, ensure_ascii=False),
            ),
        )


class _Tokens:
    """The tokens that were taken lately, each with the body it came with.

    A request that is repeated because our answer was lost is the same to the byte; another body
    under a token that was seen is not Mailgun's.
    """

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def spend(self, token: str, body: bytes, *, now: float) -> None:
        """Take a token for a body.

        Raises:
            BadSignatureError: it was taken for another.
        """
        self._forget(now)
        digest = sha256(body).digest()
        known, _ = self._spent.setdefault(token, (digest, now))
        if known != digest:
            raise BadSignatureError("a token that came with something else before")

    def _forget(self, now: float) -> None:
        """What was signed up to one age ahead of its arrival is refused by its age after two."""
        while self._spent:
            token, (_, since) = next(iter(self._spent.items()))
            if now - since <= 2 * SIGNATURE_AGE_SECONDS:
                return
            del self._spent[token]


def _multipart(fields: Mapping[str, str], content: bytes) -> tuple[str, bytes]:
    """A form with a mail as its file `message`: the content type and the body."""
    boundary = sha256(content).hexdigest()  # which the content cannot hold
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="message"; filename="mail.eml"\r\n'
        "Content-Type: message/rfc822\r\n\r\n"
    )
    body = b"".join((*parts, head.encode(), content, f"\r\n--{boundary}--\r\n".encode()))
    return f"multipart/form-data; boundary={boundary}", body


def _provider_response(message: EmailMessage, answer: Answer) -> ProviderResponse:
    said = json_object(answer.text)
    detail = text_or_none(said.get("message"))
    field = _FIELD.search(detail or "") if answer.status == 400 else None
    named = field[1].lower() if field else None
    if named == "to" and (message.cc or message.bcc):
        named = None  # copies are recipients like `to`: it may be one of them
    return ProviderResponse(
        provider_message_id=_bare(said.get("id")),
        code=named or str(answer.status),
        detail=detail,
        raw=answer.text,
    )


def _bare(message_id: object) -> str | None:
    """A Message-ID without its brackets: answers have them, and events do not."""
    return text_or_none(str(message_id or "").strip("<>"))


def _within(event: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = event.get(name)
    return value if isinstance(value, dict) else {}


def _headers(event: Mapping[str, object]) -> Mapping[str, object]:
    return _within(_within(event, "message"), "headers")


def _detail(event: Mapping[str, object]) -> str | None:
    status, reject = _within(event, "delivery-status"), _within(event, "reject")
    found = status.get("message") or status.get("description") or reject.get("reason")
    return text_or_none(found)


def _nothing_to_send(answer: Answer) -> bool:
    """The key is known, and what was asked of it is not a mail."""
    return answer.status == 400


def _build(setup: ProviderContext) -> HttpProvider[EmailMessage]:
    options, transport = setup.options, transport_of(setup)
    options.others("webhook_key_env")
    key, domain = options.secret("api_key_env", "MAILGUN_API_KEY"), options.text("domain")
    base_url, sender = options.url("base_url", BASE_URL), sender_option(options)
    options.done()
    dialect = Mailgun(
        base_url=base_url,
        domain=domain,
        key=key,
        sender=sender,
        classifier=Classifier(CODES, channel=setup.channel, provider=setup.name),
    )
    return HttpProvider(setup.name, dialect, transport, probe_ok=_nothing_to_send)


def _receipts(setup: ProviderContext, clock: Clock) -> MailgunReceipts:
    setup.options.others("timeout_seconds", "api_key_env", "base_url", "from", "domain")
    key = setup.options.secret("webhook_key_env", "MAILGUN_WEBHOOK_SIGNING_KEY")
    setup.options.done()
    classifier = Classifier(CODES, channel=setup.channel, provider=setup.name)
    return MailgunReceipts(key, classifier=classifier, clock=clock)


MAILGUN = ProviderType(build=_build, receipts=_receipts, modes=live_and_test)
