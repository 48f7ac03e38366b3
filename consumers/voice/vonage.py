"""Calls by Vonage: https://developer.vonage.com/en/api/voice

The runner calls it like every provider. What is said travels inside the request (an NCCO), so that
Vonage asks us nothing while the call lasts. Our id travels in the address for events, which their
signature does not cover: between Vonage and us it is TLS that keeps it. Vonage has no idempotency
key.
"""

import json
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Annotated, Any

from pydantic import Field

from comms.platform.clock import Clock
from comms.platform.settings import Secret
from consumers.sdk.error_codes import (
    INVALID_RECIPIENT,
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
from consumers.sdk.options import Text
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
        "invalid_number": INVALID_RECIPIENT,
        "number_out_of_service": INVALID_RECIPIENT,
        "cannot_route": INVALID_RECIPIENT,
        "restricted": REJECTED,  # by the carrier
        "declined": REJECTED,  # by the person
        "unavailable": TRANSIENT,
        "timeout": TRANSIENT,
        "carrier_timeout": TRANSIENT,
        "internal_error": TRANSIENT,
    },
)

_FAILED = frozenset({"busy", "cancelled", "failed", "rejected", "timeout", "unanswered"})


class VonageVoiceOptions(vonage.VonageOptions):
    """The account, and how calls are made.

    Attributes:
        sender: the number that calls, for messages that name none.
        ring_seconds: how long the phone rings before the call counts as not answered.
    """

    sender: Text = Field(alias="from")
    ring_seconds: Annotated[int, Field(ge=1, le=LONGEST_RING)] = 60


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
    """Writes the requests of the API and reads its answers."""

    def __init__(
        self,
        account: vonage.VonageAccount,
        options: VonageVoiceOptions,
        *,
        receipts_url: str | None,
        classifier: Classifier,
    ) -> None:
        self._account = account
        self._options = options
        self._receipts_url = receipts_url
        self._classifier = classifier

    async def request(self, message: VoiceMessage, attempt: Attempt) -> Request | Outcome:
        caller = message.sender or self._options.sender
        value: dict[str, object] = {
            "to": [{"type": "phone", "number": vonage.digits(message.to)}],
            "from": {"type": "phone", "number": vonage.digits(caller)},
            "ncco": ncco(message),
            "ringing_timer": self._options.ring_seconds,
        }
        if self._receipts_url is not None:
            value["event_url"] = [callback_url(self._receipts_url, attempt.message_id)]
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


def _build(context: ProviderContext[VonageVoiceOptions]) -> HttpProvider[VoiceMessage]:
    account = vonage.account_of(context, application_only=True)
    codec = VonageVoice(
        account,
        context.options,
        receipts_url=context.receipts_url if account.callbacks else None,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    return HttpProvider(context.name, codec, transport_of(context))


def _receipts(context: ProviderContext[VonageVoiceOptions], clock: Clock) -> VonageVoiceReceipts:
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    secret = context.options.signature_secret_env.secret()
    return VonageVoiceReceipts(secret, classifier=classifier, clock=clock)


VONAGE = ProviderType(options=VonageVoiceOptions, build=_build, receipts=_receipts)
