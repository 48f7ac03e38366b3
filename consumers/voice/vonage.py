"""Calls by Vonage: https://developer.vonage.com/en/api/voice

The runner calls it like every provider. What is said travels inside the request (an NCCO), so that
Vonage asks us nothing while the call lasts. Our id travels in the address for events, which their
signature does not cover: between Vonage and us it is TLS that keeps it. Vonage has no idempotency
key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from comms.platform.clock import Clock
from comms.platform.settings import Secret
from consumers.sdk.error_codes import (
    NOBODY,
    REJECTED,
    TRANSIENT,
    Classifier,
    ErrorTable,
    reason_of_failure,
)
from consumers.sdk.http_provider import (
    HttpProvider,
    Request,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipts import (
    ReceiptEvent,
    UnmatchedReceipt,
    callback_url,
    message_id_in,
    moment,
)
from consumers.vendors import vonage
from schemas.events import ProviderResponse
from schemas.messages import VoiceMessage

LONGEST_TALK = 1_500  # characters that are said at once; Vonage's own bound
LONGEST_RING = 120  # seconds, likewise

# What an event's `detail` says of a call that reached nobody; answers have the codes of every API.
CODES = ErrorTable(
    source="https://developer.vonage.com/en/voice/voice-api/webhook-reference",
    codes={
        **vonage.CODES,
        "invalid_number": NOBODY,
        "number_out_of_service": NOBODY,
        "cannot_route": NOBODY,
        "restricted": REJECTED,  # by the carrier
        "declined": REJECTED,  # by the person
        "unavailable": TRANSIENT,
        "timeout": TRANSIENT,
        "carrier_timeout": TRANSIENT,
        "internal_error": TRANSIENT,
    },
)

_FAILED = frozenset({"busy", "cancelled", "failed", "rejected", "timeout", "unanswered"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """How calls are made.

    Args:
        sender: the number that calls for messages which name none.
        ring_seconds: how long it rings before nobody answers.
        receipts_url: None where Vonage cannot reach us.
    """

    sender: str
    ring_seconds: int
    receipts_url: str | None


def ncco(message: VoiceMessage) -> list[dict[str, object]]:
    """What Vonage shall say or play, one thing after the other.

    A voice is a number there (`style`); the name of another provider's is left out.
    """
    if message.audio_url is not None:
        one: dict[str, object] = {"action": "stream", "streamUrl": [message.audio_url]}
        return [one] * message.repeat
    how: dict[str, object] = {}
    if message.language is not None:
        how["language"] = message.language
    if message.voice is not None and message.voice.isdecimal():
        how["style"] = int(message.voice)
    talks = [{"action": "talk", "text": part, **how} for part in _parts(message.text or "")]
    return talks * message.repeat


def _parts(text: str) -> list[str]:
    """A text in parts that are said at once, cut between words."""
    if len(text) <= LONGEST_TALK:
        return [text]
    return wrap(text, LONGEST_TALK, break_on_hyphens=False)


class VonageVoice:
    """The dialect."""

    def __init__(
        self, account: vonage.VonageAccount, rules: CallRules, *, classifier: Classifier
    ) -> None:
        self._account, self._rules, self._classifier = account, rules, classifier

    async def request(self, message: VoiceMessage, attempt: Attempt) -> Request | Outcome:
        caller = message.sender or self._rules.sender
        value: dict[str, object] = {
            "to": [{"type": "phone", "number": vonage.digits(message.to)}],
            "from": {"type": "phone", "number": vonage.digits(caller)},
            "ncco": ncco(message),
            "ringing_timer": self._rules.ring_seconds,
        }
        if self._rules.receipts_url is not None:
            value["event_url"] = [callback_url(self._rules.receipts_url, attempt.message_id)]
            value["event_method"] = "POST"
        return json_request(self._url, value, self._account.headers())

    def read(self, message: VoiceMessage, answer: Answer) -> Outcome:
        response = vonage.words_of(answer)
        return self._classifier.answered(
            response,
            answer,
            own_sender=message.sender is not None,
            is_success=vonage.is_success(answer, response),
        )

    def probe(self) -> Request:
        """Reads one past call: it proves the application and calls nobody."""
        url = f"{self._url}?page_size=1"
        return Request(method="GET", url=url, headers=self._account.headers())

    @property
    def _url(self) -> str:
        return f"{self._account.base_url}/v1/calls"


class VonageVoiceReceipts:
    """Reads the events of calls, which carry a signed token."""

    def __init__(self, secret: Secret, *, classifier: Classifier, clock: Clock) -> None:
        self._secret, self._classifier, self._clock = secret, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        said = vonage.verified(headers, body, secret=self._secret, clock=self._clock)
        status = text_or_none(said.get("status")) or ""
        if status != "completed" and status not in _FAILED:
            return []  # it rings, or somebody listens
        return [self._receipt(said, status).of_ours(message_id_in(url))]

    def _receipt(self, said: Mapping[str, Any], status: str) -> UnmatchedReceipt:
        delivered = status == "completed"
        detail = None if delivered else text_or_none(said.get("detail"))
        meaning = self._classifier.of_receipt(detail)
        return UnmatchedReceipt(
            delivered=delivered,
            occurred_at=moment(said.get("timestamp"), otherwise=self._clock()),
            reason=reason_of_failure(meaning),
            response=ProviderResponse(
                provider_message_id=text_or_none(said.get("uuid")),
                code=detail or status,
                detail=status,
                raw=json.dumps(said, ensure_ascii=False),
            ),
        )


def _build(setup: ProviderContext) -> HttpProvider[VoiceMessage]:
    options, transport = setup.options, transport_of(setup)
    table = vonage.AccountTable.read(options, application_only=True)
    sender, seconds = options.text("from"), options.number("ring_seconds", 60, at_least=1)
    if seconds > LONGEST_RING:
        raise options.wrong("ring_seconds", f"must be at most {LONGEST_RING}")
    options.done()
    account = table.account(setup)
    rules = CallRules(
        sender=sender,
        ring_seconds=int(seconds),
        receipts_url=setup.receipts_url if account.callbacks else None,
    )
    classifier = Classifier(CODES, channel=setup.channel, provider=setup.name)
    return HttpProvider(setup.name, VonageVoice(account, rules, classifier=classifier), transport)


def _receipts(setup: ProviderContext, clock: Clock) -> VonageVoiceReceipts:
    secret = vonage.read_signature_secret(setup.options)
    setup.options.others("timeout_seconds", "from", "ring_seconds")
    setup.options.done()
    classifier = Classifier(CODES, channel=setup.channel, provider=setup.name)
    return VonageVoiceReceipts(secret, classifier=classifier, clock=clock)


VONAGE = ProviderType(build=_build, receipts=_receipts)
