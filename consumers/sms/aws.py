"""Text messages by AWS End User Messaging:
https://docs.aws.amazon.com/pinpoint/latest/apireference_smsvoicev2/API_SendTextMessage.html

The runner calls it like every provider. Our id travels as the message's context, which every event
repeats. Events, and what people write back, come as notifications of an SNS topic, which are
signed. AWS has no idempotency key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from comms.platform.clock import Clock, utc_now
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
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
    json_object,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import Text
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_and_test
from consumers.sdk.receipts import (
    Inbound,
    NotSetUpError,
    ReceiptEvent,
    ReceiptParser,
    UnmatchedReceipt,
    UnreadableReceiptError,
    uuid_or_none,
)
from consumers.sdk.unconfigured import UnconfiguredReceipts
from consumers.vendors import sigv4, sns
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage
from schemas.vocabulary import Mode

SERVICE = "sms-voice"
TARGET = "PinpointSMSVoiceV2.SendTextMessage"
SHORTEST_TTL, LONGEST_TTL = 5, 259_200  # seconds, both AWS's
SIMULATOR = "+14254147755"  # AWS's own: even a real message to it would not leave AWS
OUR_ID = "message_id"

# Names of errors, with the field or the reason that they give; and types of events:
# https://docs.aws.amazon.com/sms-voice/latest/userguide/configuration-sets-event-types.html
CODES = ErrorTable(
    source="https://docs.aws.amazon.com/pinpoint/latest/apireference_smsvoicev2/API_SendTextMessage.html",
    codes={
        # The recipient
        "ValidationException DestinationPhoneNumber": INVALID_RECIPIENT,
        "ConflictException DESTINATION_PHONE_NUMBER_OPTED_OUT": OPTED_OUT,
        "ConflictException DESTINATION_PHONE_NUMBER_NOT_VERIFIED": REJECTED,  # in the sandbox
        "ConflictException DESTINATION_PHONE_NUMBER_BLOCKED_BY_PROTECT_NUMBER_OVERRIDE": REJECTED,
        # Its country: messages to others are not stopped
        "ConflictException DESTINATION_COUNTRY_BLOCKED_BY_PROTECT_CONFIGURATION": REJECTED,
        "ConflictException NO_ORIGINATION_IDENTITIES_FOUND": REJECTED,
        "ValidationException COUNTRY_CODE_MISMATCH": REJECTED,
        "ValidationException COUNTRY_NOT_ENABLED": REJECTED,
        "ValidationException DESTINATION_COUNTRY_BLOCKED": REJECTED,
        "ValidationException INTERNATIONAL_SENDING_NOT_SUPPORTED": REJECTED,
        "ValidationException INVALID_IDENTITY_FOR_DESTINATION_COUNTRY": REJECTED,
        "ValidationException PRICE_OVER_THRESHOLD": REJECTED,
        "ValidationException SENDER_ID_NOT_REGISTERED": REJECTED,
        "ValidationException SENDER_ID_NOT_SUPPORTED": REJECTED,
        "ValidationException SENDER_ID_REQUIRES_REGISTRATION": REJECTED,
        # The content
        "ValidationException MessageBody": CONTENT,
        "ValidationException MAXIMUM_SIZE_EXCEEDED": CONTENT,
        "ValidationException": REJECTED,
        # The sender
        "ValidationException OriginationIdentity": SENDER,
        "ValidationException INVALID_ARN": SENDER,
        "ValidationException RESOURCE_NOT_ACCESSIBLE": SENDER,
        "ConflictException NUMBER_CAPABILITIES_MISMATCH": SENDER,
        "ConflictException MESSAGE_TYPE_MISMATCH": SENDER,
        "ConflictException RESOURCE_NOT_ACTIVE": SENDER,
        "ResourceNotFoundException": SENDER,
        # The account
        "ServiceQuotaExceededException": ACCOUNT,  # the money of the month
        "AccessDeniedException": ACCOUNT,  # no permission, no reputation, or disabled
        "UnrecognizedClientException": ACCOUNT,
        "InvalidClientTokenId": ACCOUNT,
        "InvalidSignatureException": ACCOUNT,
        "SignatureDoesNotMatch": ACCOUNT,
        "IncompleteSignatureException": ACCOUNT,
        "MissingAuthenticationTokenException": ACCOUNT,
        "ExpiredTokenException": ACCOUNT,
        "OptInRequired": ACCOUNT,
        # The moment
        "ThrottlingException": LIMITED,
        "InternalServerException": TRANSIENT,
        "InternalFailure": TRANSIENT,
        "ServiceUnavailable": TRANSIENT,
        "ServiceUnavailableException": TRANSIENT,
        # Events
        "TEXT_INVALID": INVALID_RECIPIENT,
        "TEXT_INVALID_MESSAGE": CONTENT,
        "TEXT_BLOCKED": REJECTED,
        "TEXT_CARRIER_BLOCKED": REJECTED,
        "TEXT_PROTECT_BLOCKED": REJECTED,
        "TEXT_SPAM": REJECTED,
        "TEXT_UNREACHABLE": TRANSIENT,
        "TEXT_CARRIER_UNREACHABLE": TRANSIENT,
        "TEXT_TTL_EXPIRED": TRANSIENT,
    },
)

_FAILED = frozenset(code for code in CODES.codes if code.startswith("TEXT_"))
_DELIVERED = frozenset({"TEXT_DELIVERED"})
# What the probe may be refused for by somebody who knows us: its number, or our haste.
_KNOWN = ("ValidationException", "ConflictException", "ThrottlingException")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AwsSmsAccount:
    """Whose account is used, and what is said with every message.

    Args:
        sender: a number, a name, a pool's id or an ARN; None where AWS shall choose.
    """

    base_url: str
    region: str
    credentials: sigv4.Credentials
    sender: str | None
    configuration_set: str | None
    message_type: str


class AwsSms:
    """Writes the requests of the API and reads its answers."""

    def __init__(
        self, account: AwsSmsAccount, *, classifier: Classifier, clock: Clock = utc_now
    ) -> None:
        self._account, self._classifier, self._clock = account, classifier, clock

    async def request(self, message: SmsMessage, attempt: Attempt) -> Request | Outcome:
        value: dict[str, object] = {
            "DestinationPhoneNumber": message.to,
            "MessageBody": message.body,
            "Context": {OUR_ID: str(attempt.message_id)},
        }
        if message.expires_at is not None:
            left = int((message.expires_at - self._clock()).total_seconds())
            value["TimeToLive"] = min(LONGEST_TTL, max(SHORTEST_TTL, left))
        if message.mode is Mode.TEST:
            value["DryRun"] = True
        return self._signed(value, message.sender)

    def read(self, message: SmsMessage, answer: Answer) -> Outcome:
        said = json_object(answer.text)
        response = ProviderResponse(
            provider_message_id=text_or_none(said.get("MessageId")),
            code=_code(said, answer),
            detail=text_or_none(said.get("Message") or said.get("message")),
            raw=answer.text,
        )
        return self._classifier.answered(response, answer, own_sender=message.sender is not None)

    def probe(self) -> Request:
        """A message to AWS's simulator that is checked and not sent."""
        value = {"DestinationPhoneNumber": SIMULATOR, "MessageBody": "Probe", "DryRun": True}
        return self._signed(value, None)

    def _signed(self, value: Mapping[str, object], own_sender: str | None) -> Request:
        account = self._account
        more = {
            "OriginationIdentity": own_sender or account.sender,
            "ConfigurationSetName": account.configuration_set,
            "MessageType": account.message_type,
        }
        known = {name: one for name, one in more.items() if one is not None}
        url, body = f"{account.base_url}/", json.dumps({**value, **known}).encode()
        headers = sigv4.signed(
            "POST",
            url,
            headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": TARGET},
            body=body,
            service=sigv4.Service(name=SERVICE, region=account.region),
            credentials=account.credentials,
            now=self._clock(),
        )
        return Request(url=url, headers=headers, body=body)


class AwsSmsReceipts:
    """Reads events, and what people wrote, out of an SNS topic's notifications."""

    def __init__(self, topic: sns.Topic, *, classifier: Classifier, clock: Clock) -> None:
        self._topic, self._classifier, self._clock = topic, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        del headers, url  # nothing of them is signed
        text = self._topic.message_in(body, now=self._clock())
        if text is None:
            return []
        said = json_object(text)
        if "inboundMessageId" in said:
            return [_inbound(said)]
        kind = said.get("eventType")
        if not isinstance(kind, str):
            raise UnreadableReceiptError("no event")
        if kind not in _DELIVERED | _FAILED:
            return []  # on its way, or its end is not known
        return [self._receipt(said, kind, text).of_ours(_our_id(said))]

    def _receipt(self, said: Mapping[str, Any], kind: str, text: str) -> UnmatchedReceipt:
        meaning = None if kind in _DELIVERED else self._classifier.of_receipt(kind)
        return UnmatchedReceipt(
            delivered=kind in _DELIVERED,
            occurred_at=_moment(said.get("eventTimestamp"), self._clock),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else None,
            response=ProviderResponse(
                provider_message_id=text_or_none(said.get("messageId")),
                code=kind,
                detail=text_or_none(said.get("messageStatusDescription")),
                raw=text,
            ),
        )


class _NoTopic:
    """Stands where `topic_arn` is not set: nothing can be proved."""

    def __init__(self, where: str) -> None:
        self._where = where

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        del headers, body, url
        raise NotSetUpError(self._where)


def knows_us(answer: Answer) -> bool:
    """Whether the probe was refused for what it asks, and not for who asked."""
    return _name(json_object(answer.text), answer) in _KNOWN


def _name(said: Mapping[str, Any], answer: Answer) -> str:
    named = answer.headers.get("x-amzn-ErrorType") or str(said.get("__type") or answer.status)
    return named.partition(":")[0].rpartition("#")[2]


def _code(said: Mapping[str, Any], answer: Answer) -> str:
    """An error's name, with the field that is wrong, or else the reason, where the table has it."""
    name, reason = _name(said, answer), text_or_none(said.get("Reason"))
    fields = said.get("Fields")
    listed = fields if isinstance(fields, list) else []
    more = [str(one.get("Name")) for one in listed if isinstance(one, dict)]
    codes = [f"{name} {one}" for one in (*more, reason) if one]
    return next((code for code in codes if code in CODES.codes), name)


def _our_id(said: Mapping[str, Any]) -> UUID | None:
    context = said.get("context")
    return uuid_or_none(text_or_none(context.get(OUR_ID)) if isinstance(context, dict) else None)


def _moment(milliseconds: object, clock: Clock) -> datetime:
    try:
        return datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return clock()


def _inbound(said: Mapping[str, Any]) -> Inbound:
    return Inbound(
        from_=str(said.get("originationNumber") or ""),
        to=str(said.get("destinationNumber") or ""),
        text=str(said.get("messageBody") or ""),
    )


class AwsSmsOptions(sigv4.AwsOptions):
    """The account, and what is said with every message.

    Attributes:
        sender: a number, a name, a pool's id or an ARN; None if AWS is to choose.
        configuration_set: which events are published, and where.
        message_type: what the messages are for.
        topic_arn: the SNS topic of the events; None for no receipts.
    """

    sender: Text | None = Field(alias="from", default=None)
    configuration_set: Text | None = None
    message_type: Literal["TRANSACTIONAL", "PROMOTIONAL"] = "TRANSACTIONAL"
    topic_arn: sns.TopicArn | None = None


def _build(context: ProviderContext[AwsSmsOptions]) -> HttpProvider[SmsMessage]:
    options = context.options
    account = AwsSmsAccount(
        base_url=options.url_of(SERVICE),
        region=options.region,
        credentials=options.credentials(),
        sender=options.sender,
        configuration_set=options.configuration_set,
        message_type=options.message_type,
    )
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    codec = AwsSms(account, classifier=classifier)
    return HttpProvider(context.name, codec, transport_of(context), probe_ok=knows_us)


def _receipts(context: ProviderContext[AwsSmsOptions], clock: Clock) -> ReceiptParser:
    arn = context.options.topic_arn
    if arn is None:
        return UnconfiguredReceipts(f"{context.name}: topic_arn is not set")
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    return AwsSmsReceipts(sns.Topic(arn), classifier=classifier, clock=clock)


AWS = ProviderType(options=AwsSmsOptions, build=_build, receipts=_receipts, modes=live_and_test)
