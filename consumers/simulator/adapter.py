"""The simulated provider's adapter, the same on every channel, and the reader of its receipts.

The runner calls it like any other provider. It speaks HTTP to `consumers.simulator`, a process of
its own, so that what is tested and measured is a real call with a real answer.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from comms.platform.clock import Clock
from comms.platform.settings import Secret
from consumers.sdk.capabilities import ANY_MODE, NEVER_LIVE
from consumers.sdk.http_transport import Answer, HttpTransport, TransportError, outcome_of
from consumers.sdk.outcomes import Accepted, Outcome, Refused, TryLater
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipts import (
    BadSignatureError,
    Receipt,
    UnreadableReceiptError,
    check_signature_age,
)
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage, Message, PushMessage, SmsMessage
from schemas.vocabulary import Mode, Reason, SuppressionReason

SIGNATURE_HEADER = "x-simulated-signature"
_TESTS_ONLY = "tests_only"  # true: no live message is given to it, whatever becomes of the others

_JSON = {"Content-Type": "application/json"}
_REFUSALS: Mapping[str, Reason] = {
    "invalid_recipient": Reason.INVALID_RECIPIENT,
    "invalid_content": Reason.INVALID_CONTENT,
}


class SimulatedProvider:
    """A provider that is a stub, reached as a real one is.

    Args:
        url: where the stub takes messages; callback: where it shall send receipts.
    """

    def __init__(self, name: str, *, url: str, callback: str, transport: HttpTransport) -> None:
        self._name, self._base, self._callback = name, url, callback
        self._transport = transport

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        await self._transport.open()

    async def send(self, message: Message, attempt: Attempt) -> Outcome:
        request = {
            "client_ref": str(attempt.message_id),
            "attempt": attempt.number,
            "to": message.recipient,
            "digest": digest_of(message),
            "callback_url": self._callback,
        }
        url = f"{self._base}/v1/{message.channel}/messages"
        try:
            answer = await self._transport.call(
                "POST", url, body=json.dumps(request).encode(), headers=_JSON
            )
        except TransportError as error:
            return outcome_of(error)
        return _outcome(answer)

    async def probe(self) -> str | None:
        try:
            answer = await self._transport.call("GET", f"{self._base}/readyz")
        except TransportError as error:
            return str(error)
        return None if answer.status == 200 else f"the simulator answers {answer.status}"

    async def close(self) -> None:
        await self._transport.close()

    def __repr__(self) -> str:
        return f"SimulatedProvider({self._name})"


def digest_of(message: Message) -> str:
    """A short digest of what is to be said; the stub has no need of the words themselves."""
    parts: tuple[str, ...]
    match message:
        case EmailMessage():
            parts = (message.subject, message.text or "", message.html or "")
        case PushMessage():
            parts = (message.title, message.body)
        case SmsMessage():
            parts = (message.body,)
        case _:
            parts = (message.text or message.audio_url or "",)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _outcome(answer: Answer) -> Outcome:
    said = _object(answer.text)
    response = ProviderResponse(
        provider_message_id=_text(said.get("id")),
        code=_text(said.get("code")) or str(answer.status),
        detail=_text(said.get("message")),
        raw=answer.text,
    )
    match answer.status:
        case status if 200 <= status < 300:
            return Accepted(response=response)
        case 429:
            return TryLater(
                reason=Reason.RATE_LIMITED, after=answer.retry_after(), response=response
            )
        case 400 | 404 | 409 | 413 | 422:
            return Refused(
                reason=_REFUSALS.get(response.code or "", Reason.REJECTED), response=response
            )
        case _:  # a server's trouble, or ours with our account: not the message's fault
            return TryLater(
                reason=Reason.PROVIDER_ERROR, after=answer.retry_after(), response=response
            )


def _object(text: str | bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def signature(secret: Secret, *, timestamp: int, body: bytes) -> str:
    """What the stub writes into the signature header, and we expect there."""
    signed = f"{timestamp}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.value.encode(), signed, 'sha256').hexdigest()}"


class SimulatedReceipts:
    """Reads the stub's receipts: a JSON array, signed by a shared secret over time and body."""

    def __init__(self, secret: Secret, clock: Clock) -> None:
        self._secret, self._clock = secret, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> list[Receipt]:
        self._verify(headers.get(SIGNATURE_HEADER, ""), body)
        try:
            items = json.loads(body)
            return [_receipt(item) for item in items]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UnreadableReceiptError("not an array of receipts") from error

    def _verify(self, header: str, body: bytes) -> None:
        stamp = header.partition("t=")[2].partition(",")[0]
        if not stamp.isdecimal() or not stamp.isascii() or len(stamp) > 12:
            raise BadSignatureError("no signature")
        expected = signature(self._secret, timestamp=int(stamp), body=body)
        if not hmac.compare_digest(expected.encode(), header.encode()):
            raise BadSignatureError("the signature is not the provider's")
        check_signature_age(stamp, now=self._clock())


def _receipt(item: Mapping[str, Any]) -> Receipt:
    status = item["status"]
    if status not in ("delivered", "failed"):
        raise UnreadableReceiptError("a status that is neither delivered nor failed")
    at = datetime.fromisoformat(item["occurred_at"])
    if at.tzinfo is None:
        raise UnreadableReceiptError("a time without its zone")
    return Receipt(
        message_id=UUID(item["client_ref"]),
        delivered=status == "delivered",
        suppress=SuppressionReason(item["suppress"]) if item.get("suppress") else None,
        occurred_at=at,
        response=ProviderResponse(
            provider_message_id=_text(item.get("id")),
            code=_text(item.get("code")),
            detail=_text(item.get("detail")),
            raw=json.dumps(item),
        ),
    )


def _build(setup: ProviderContext) -> SimulatedProvider:
    url = setup.options.text("url", setup.settings.simulator_url).rstrip("/")
    setup.options.others(_TESTS_ONLY)
    setup.options.done()
    return SimulatedProvider(
        setup.name,
        url=url,
        callback=setup.receipts_url,
        transport=HttpTransport(
            timeout_seconds=setup.timeout_seconds, connections=setup.connections
        ),
    )


def _modes(setup: ProviderContext) -> frozenset[Mode]:
    return NEVER_LIVE if setup.options.flag(_TESTS_ONLY, False) else ANY_MODE


SIMULATED = ProviderType(
    build=_build,
    modes=_modes,
    receipts=lambda setup, clock: SimulatedReceipts(setup.settings.receipt_secret, clock),
)
