"""Text messages by Telnyx: https://developers.telnyx.com/api-reference/messages/send-a-message

The runner calls it like every provider. Telnyx has idempotency keys for calls whose reference names
them, which that of messages does not:
https://developers.telnyx.com/docs/development/api-fundamentals/idempotency
Our id travels in the address for receipts; they repeat that address inside the body that is signed,
and it is believed there only. Its numbers also bring what people write back.
"""

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from comms.platform.clock import Clock
from comms.platform.settings import Secret
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    LIMITED,
    NOBODY,
    OPTED_OUT,
    REJECTED,
    SENDER,
    TRANSIENT,
    UNCLEAR,
    Classifier,
    ErrorTable,
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
from consumers.sdk.options import LOOPBACK, Options
from consumers.sdk.outcomes import Outcome, accepted_or_ambiguous
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipts import (
    BadSignatureError,
    Inbound,
    ReceiptEvent,
    UnmatchedReceipt,
    UnreadableReceiptError,
    callback_url,
    check_signature_age,
    message_id_in,
    moment,
)
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage

BASE_URL = "https://api.telnyx.com"
SIGNATURE_HEADER = "telnyx-signature-ed25519"
TIME_HEADER = "telnyx-timestamp"

# Codes of answers and of receipts. `:from` is a code whose source is the sender.
CODES = ErrorTable(
    source="https://developers.telnyx.com/docs/messaging/messages/error-codes",
    codes={
        # The recipient
        "10001": NOBODY,  # inactive
        "10002": NOBODY,
        "10016": NOBODY,  # not E.164
        "40001": NOBODY,  # a landline, or not routable
        "40012": NOBODY,
        "40310": NOBODY,
        "40004": REJECTED,
        "40008": REJECTED,
        "40300": OPTED_OUT,
        "40301": REJECTED,
        "40309": REJECTED,  # its region is not enabled: others' messages are not stopped
        "40319": REJECTED,
        # The content
        "40009": CONTENT,
        "40302": CONTENT,  # too large
        "40304": CONTENT,
        "40316": CONTENT,
        "40317": CONTENT,
        "40328": CONTENT,  # too many parts
        "40015": REJECTED,  # taken for spam
        "40017": REJECTED,
        "40322": REJECTED,
        "10004": REJECTED,
        "10015": REJECTED,
        "40005": REJECTED,  # its time ran out
        "40014": REJECTED,
        "20015": REJECTED,  # a feature that the account lacks
        # The sender
        "10001:from": SENDER,
        "10002:from": SENDER,
        "10016:from": SENDER,
        "40003": SENDER,  # blocked as a source of spam
        "40010": SENDER,  # not registered for 10DLC
        "40013": SENDER,
        "40100": SENDER,
        "40150": SENDER,
        "40305": SENDER,
        "40306": SENDER,
        "40308": SENDER,
        "40315": SENDER,
        "40329": SENDER,
        # The account
        "10003": ACCOUNT,  # our address for receipts is refused
        "10005": ACCOUNT,  # no such messaging profile
        "10006": ACCOUNT,
        "10009": ACCOUNT,  # wrong credentials
        "10010": ACCOUNT,
        "20002": ACCOUNT,  # the key is revoked
        "20006": ACCOUNT,
        "20012": ACCOUNT,  # not active
        "20013": ACCOUNT,  # blocked
        "20014": ACCOUNT,
        "20016": ACCOUNT,
        "20017": ACCOUNT,
        "20100": ACCOUNT,  # no credit
        "40311": ACCOUNT,  # the messaging profile, from here on
        "40312": ACCOUNT,
        "40313": ACCOUNT,
        "40314": ACCOUNT,
        "40321": ACCOUNT,
        # The moment
        "10007": TRANSIENT,
        "10008": UNCLEAR,
        "10011": LIMITED,
        "40002": TRANSIENT,  # taken for spam, for now
        "40006": TRANSIENT,
        "40011": LIMITED,
        "40016": LIMITED,
        "40018": LIMITED,
        "40151": TRANSIENT,
        "40318": LIMITED,  # the queue is full
        "40320": TRANSIENT,
    },
    statuses={409: TRANSIENT},  # the same key is being worked on
)

_DELIVERED = frozenset({"delivered"})
_FAILED = frozenset({"sending_failed", "delivery_failed", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TelnyxAccount:
    """Whose account is used, and what is said of senders.

    Args:
        sender: of messages that name none; None where the profile chooses a number.
        profile: a messaging profile, needed where a message's own sender is a name.
        receipts_url: None where Telnyx cannot reach us.
    """

    base_url: str
    key: Secret
    sender: str | None
    profile: str | None
    receipts_url: str | None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every call."""
        return bearer(self.key)


class TelnyxSms:
    """The dialect."""

    def __init__(self, account: TelnyxAccount, *, classifier: Classifier) -> None:
        self._account, self._classifier = account, classifier

    async def request(self, message: SmsMessage, attempt: Attempt) -> Request | Outcome:
        account = self._account
        value = {
            "to": message.to,
            "from": message.sender or account.sender,
            "messaging_profile_id": account.profile,
            "text": message.body,
        }
        if account.receipts_url is not None:
            value["webhook_url"] = callback_url(account.receipts_url, attempt.message_id)
        value = {name: one for name, one in value.items() if one is not None}
        return json_request(f"{account.base_url}/v2/messages", value, account.headers)

    def read(self, message: SmsMessage, answer: Answer) -> Outcome:
        said = json_object(answer.text)
        data = _object(said.get("data"))
        if 200 <= answer.status < 300 and _status(data) not in _FAILED:
            return accepted_or_ambiguous(_provider_response(data, "accepted", answer.text))
        failure = said if "errors" in said else data
        return self._classifier.outcome(
            _provider_response(failure, str(answer.status), answer.text),
            # A refusal in an answer of success is judged by its code, else as a bad request.
            status=answer.status if answer.status >= 300 else 400,
            retry_after=answer.retry_after(),
            own_sender=message.sender is not None,
        )

    def probe(self) -> Request:
        """Reads the balance: it proves the key and costs nothing."""
        url = f"{self._account.base_url}/v2/balance"
        return Request(method="GET", url=url, headers=self._account.headers)


class TelnyxSmsReceipts:
    """Reads delivery events and what people write to our numbers; both are signed."""

    def __init__(self, key: Ed25519PublicKey, *, classifier: Classifier, clock: Clock) -> None:
        self._key, self._classifier, self._clock = key, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        verify(headers, body, key=self._key, now=self._clock())
        data = _object(json_object(body).get("data"))
        payload = _object(data.get("payload"))
        match data.get("event_type"):
            case None:
                raise UnreadableReceiptError("no event")
            case "message.received":
                return [_inbound(payload)]
            case "message.finalized" if _status(payload) in _DELIVERED | _FAILED:
                found = self._receipt(data, payload)
                return [found.of_ours(message_id_in(str(payload.get("webhook_url"))))]
            case _:
                return []  # on its way, or its end will not be known

    def _receipt(self, data: Mapping[str, Any], payload: Mapping[str, Any]) -> UnmatchedReceipt:
        status = _status(payload)
        delivered = status in _DELIVERED
        response = _provider_response(payload, status, json.dumps(data, ensure_ascii=False))
        told = response.code if response.code != status else None
        meaning = None if delivered else self._classifier.of_receipt(told)
        return UnmatchedReceipt(
            delivered=delivered,
            occurred_at=moment(data.get("occurred_at"), otherwise=self._clock()),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else None,
            response=response,
        )


def verify(
    headers: Mapping[str, str], body: bytes, *, key: Ed25519PublicKey, now: datetime
) -> None:
    """Prove that Telnyx sent a body, and just now.

    Args:
        headers: by lower-case name.

    Raises:
        BadSignatureError: it did not, or too long ago.
    """
    time, said = headers.get(TIME_HEADER, ""), headers.get(SIGNATURE_HEADER, "")
    try:
        key.verify(b64decode(said, validate=True), time.encode() + b"|" + body)
        signed = int(time)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError("the signature is not the provider's") from error
    check_signature_age(signed, now=now)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(value: object) -> Mapping[str, Any]:
    return _object(value[0]) if isinstance(value, list) and value else {}


def _status(payload: Mapping[str, Any]) -> str:
    """Where a message stands: its one recipient's status."""
    return text_or_none(_first(payload.get("to")).get("status")) or ""


def _provider_response(said: Mapping[str, Any], code: str, response: str) -> ProviderResponse:
    """What is said of a message, with the first of its errors; `code` where there is none."""
    error = _first(said.get("errors"))
    return ProviderResponse(
        provider_message_id=text_or_none(said.get("id")),
        code=_code(error) or code,
        detail=text_or_none(error.get("detail")) or text_or_none(error.get("title")) or code,
        raw=response,
    )


def _code(error: Mapping[str, Any]) -> str | None:
    code = text_or_none(error.get("code"))
    if _object(error.get("source")).get("pointer") == "/from" and f"{code}:from" in CODES.codes:
        return f"{code}:from"
    return code


def _inbound(payload: Mapping[str, Any]) -> Inbound:
    return Inbound(
        from_=str(_object(payload.get("from")).get("phone_number") or ""),
        to=str(_first(payload.get("to")).get("phone_number") or ""),
        text=str(payload.get("text") or ""),
        stop=payload.get("autoresponse_type") == "STOP",  # what Telnyx itself took it for
    )


def _build(setup: ProviderContext) -> HttpProvider[SmsMessage]:
    options, transport = setup.options, transport_of(setup)
    base_url = options.url("base_url", BASE_URL)
    key = options.secret("api_key_env", "TELNYX_API_KEY")
    sender = options.optional_text("from")
    profile = options.optional_text("messaging_profile_id")
    if sender is None and profile is None:
        raise options.wrong("from", "this or messaging_profile_id is needed")
    options.others("public_key_env")
    options.done()
    here, there = urlsplit(setup.receipts_url).hostname, urlsplit(base_url).hostname
    reachable = here not in LOOPBACK or there in LOOPBACK
    account = TelnyxAccount(
        base_url=base_url,
        key=key,
        sender=sender,
        profile=profile,
        receipts_url=setup.receipts_url if reachable else None,
    )
    classifier = Classifier(CODES, channel=setup.channel, provider=setup.name)
    return HttpProvider(setup.name, TelnyxSms(account, classifier=classifier), transport)


def _receipts(setup: ProviderContext, clock: Clock) -> TelnyxSmsReceipts:
    options = setup.options
    secret = options.secret("public_key_env", "TELNYX_PUBLIC_KEY")
    options.others("base_url", "timeout_seconds", "api_key_env", "from", "messaging_profile_id")
    options.done()
    classifier = Classifier(CODES, channel=setup.channel, provider=setup.name)
    return TelnyxSmsReceipts(_public_key(options, secret), classifier=classifier, clock=clock)


def _public_key(options: Options, secret: Secret) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(b64decode(secret.value, validate=True))
    except ValueError as error:
        raise options.wrong("public_key_env", "must hold the account's public key") from error


TELNYX = ProviderType(build=_build, receipts=_receipts)
