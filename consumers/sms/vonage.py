"""Text messages by Vonage's Messages API: https://developer.vonage.com/en/api/messages

The runner calls it like every provider. Our id travels as `client_ref`, which comes back in every
receipt and is covered by its signature. Vonage has no idempotency key. Its numbers also bring what
people write back.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import Secret
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
from consumers.sdk.receipts import Inbound, ReceiptEvent, UnmatchedReceipt, moment, uuid_or_none
from consumers.vendors import vonage
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage

SHORTEST_TTL, LONGEST_TTL = 20, 604_800  # seconds, both Vonage's

# Codes of answers and of receipts: https://developer.vonage.com/en/api-errors/messages
CODES = ErrorTable(
    source="https://developer.vonage.com/en/api-errors/messages",
    codes={
        **vonage.CODES,
        # The recipient
        "1040": INVALID_RECIPIENT,  # an unknown prefix
        "1170": INVALID_RECIPIENT,
        "1190": GONE,  # the number is no longer active
        "1250": INVALID_RECIPIENT,  # no route
        "1300": INVALID_RECIPIENT,
        "1050": REJECTED,  # barred
        "1160": REJECTED,  # a trial account may write to its own list only
        "1200": REJECTED,  # the number changed its network
        "1240": OPTED_OUT,
        "1260": REJECTED,
        "1280": REJECTED,  # blocked by the carrier
        "1290": REJECTED,  # the person's account has no credit
        "1310": REJECTED,
        # The content
        "1010": REJECTED,
        "1020": REJECTED,
        "1090": CONTENT,  # too long
        "1130": REJECTED,
        "1140": REJECTED,  # a facility that the account lacks
        "1150": REJECTED,
        "1210": REJECTED,  # taken for spam
        "1270": REJECTED,  # age
        "1320": REJECTED,  # sent before
        "1360": REJECTED,  # its time ran out
        # The sender
        "1120": SENDER,
        # The account
        "1060": ACCOUNT,  # barred
        "1070": ACCOUNT,  # no credit
        "1080": ACCOUNT,
        "1110": ACCOUNT,
        # The moment
        "1000": LIMITED,
        "1241": LIMITED,
        "1030": TRANSIENT,
        "1100": TRANSIENT,
        "1180": TRANSIENT,  # the handset is off
        "1220": TRANSIENT,
        "1230": TRANSIENT,
        "1330": TRANSIENT,  # unknown
    },
)

_DELIVERED = frozenset({"delivered", "read"})
_FAILED = frozenset({"rejected", "undeliverable"})


class VonageSms:
    """Writes the requests of the API and reads its answers.

    Args:
        sender: of messages that name none.
        receipts_url: None where Vonage cannot reach us.
    """

    def __init__(
        self,
        account: vonage.VonageAccount,
        *,
        sender: str,
        receipts_url: str | None,
        classifier: Classifier,
        clock: Clock = utc_now,
    ) -> None:
        self._account, self._sender, self._receipts_url = account, sender, receipts_url
        self._classifier, self._clock = classifier, clock

    async def request(self, message: SmsMessage, attempt: Attempt) -> Request | Outcome:
        value: dict[str, object] = {
            "message_type": "text",
            "channel": "sms",
            "to": vonage.digits(message.to),
            "from": vonage.digits(message.sender or self._sender),
            "text": message.body,
            "client_ref": str(attempt.message_id),
        }
        if self._receipts_url is not None:
            value |= {"webhook_url": self._receipts_url, "webhook_version": "v1"}
        if message.expires_at is not None:
            left = int((message.expires_at - self._clock()).total_seconds())
            value["ttl"] = min(LONGEST_TTL, max(SHORTEST_TTL, left))
        return json_request(self._url, value, self._account.headers())

    def read(self, message: SmsMessage, answer: Answer) -> Outcome:
        response = vonage.words_of(answer)
        return self._classifier.answered(
            response,
            answer,
            own_sender=message.sender is not None,
            is_success=vonage.is_success(answer, response),
        )

    def probe(self) -> Request:
        """A message without anything in it, which is refused as such where the credentials hold."""
        return json_request(self._url, {}, self._account.headers())

    @property
    def _url(self) -> str:
        return f"{self._account.base_url}/v1/messages"


class VonageSmsReceipts:
    """Reads status callbacks and what people write to our numbers; both carry a signed token."""

    def __init__(self, secret: Secret, *, classifier: Classifier, clock: Clock) -> None:
        self._secret, self._classifier, self._clock = secret, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        said = vonage.verified(headers, body, secret=self._secret, clock=self._clock)
        status = text_or_none(said.get("status")) or ""
        if not status and isinstance(said.get("text"), str):
            return [_inbound(said)]
        if status not in _DELIVERED | _FAILED:
            return []  # on its way
        ours = uuid_or_none(text_or_none(said.get("client_ref")))
        return [self._receipt(said, status).of_ours(ours)]

    def _receipt(self, said: Mapping[str, Any], status: str) -> UnmatchedReceipt:
        problem = said.get("error")
        problem = problem if isinstance(problem, dict) else {}
        code, delivered = vonage.problem_code(problem), status in _DELIVERED
        meaning = None if delivered else self._classifier.of_receipt(code)
        return UnmatchedReceipt(
            delivered=delivered,
            occurred_at=moment(said.get("timestamp"), otherwise=self._clock()),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else None,
            response=ProviderResponse(
                provider_message_id=text_or_none(said.get("message_uuid")),
                code=code or status,
                detail=text_or_none(problem.get("detail")) or status,
                raw=json.dumps(said, ensure_ascii=False),
            ),
        )


def _inbound(said: Mapping[str, Any]) -> Inbound:
    return Inbound(
        from_=vonage.e164(said.get("from")), to=vonage.e164(said.get("to")), text=said["text"]
    )


def refused_as_empty(answer: Answer) -> bool:
    """Whether the probe was refused for what it lacks, and not for who asked."""
    return answer.status == 422


class VonageSmsOptions(vonage.VonageOptions):
    """The account, and the sender.

    Attributes:
        sender: a number or a name, for messages that name none.
    """

    sender: Text = Field(alias="from")


def _build(context: ProviderContext[VonageSmsOptions]) -> HttpProvider[SmsMessage]:
    account = vonage.account_of(context)
    codec = VonageSms(
        account,
        sender=context.options.sender,
        receipts_url=context.receipts_url if account.callbacks else None,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    return HttpProvider(context.name, codec, transport_of(context), probe_ok=refused_as_empty)


def _receipts(context: ProviderContext[VonageSmsOptions], clock: Clock) -> VonageSmsReceipts:
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    secret = context.options.signature_secret_env.secret()
    return VonageSmsReceipts(secret, classifier=classifier, clock=clock)


VONAGE = ProviderType(options=VonageSmsOptions, build=_build, receipts=_receipts)
