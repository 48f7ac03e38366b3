"""Text messages by Twilio: https://www.twilio.com/docs/messaging/api/message-resource

The runner calls it like every provider. Our id travels in the address for receipts, so that a
receipt finds its message even where the answer to the call was lost. Twilio has no idempotency key.
Its numbers also bring what people write back; STOP ends in the suppression list.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

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
from consumers.sdk.http_provider import HttpProvider, Request, form_request, transport_of
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import Text, WrongValueError
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipts import (
    Inbound,
    ReceiptEvent,
    UnmatchedReceipt,
    callback_url,
    message_id_in,
)
from consumers.vendors import twilio
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage
from schemas.vocabulary import Mode

LONGEST_VALIDITY = 36_000  # seconds; Twilio's own bound, and what it takes when told nothing

# Codes of answers and of receipts: https://www.twilio.com/docs/api/errors
CODES = ErrorTable(
    source=twilio.ERRORS_PAGE,
    codes={
        **twilio.CODES,
        # The recipient
        "21612": INVALID_RECIPIENT,  # not reachable from this sender
        "21614": INVALID_RECIPIENT,  # not a mobile number
        "21635": INVALID_RECIPIENT,  # a landline
        "21408": REJECTED,  # its country is not enabled: other countries' messages are not stopped
        "21608": REJECTED,  # a trial account may write to verified numbers only
        "21610": OPTED_OUT,
        # The content
        "21602": CONTENT,  # no body
        "21617": CONTENT,  # a body above 1600 characters
        "21619": CONTENT,
        # The sender
        "21603": SENDER,
        "21606": SENDER,
        "21659": SENDER,
        "21660": SENDER,
        "21701": ACCOUNT,  # the messaging service, from here on
        "21703": ACCOUNT,
        "21704": ACCOUNT,
        "21705": ACCOUNT,
        # The account
        "30002": ACCOUNT,  # suspended
        # The moment
        "14107": LIMITED,
        "21611": LIMITED,  # the sender's queue is full
        # Of receipts
        "30001": TRANSIENT,  # queue overflow
        "30003": TRANSIENT,  # the handset is off
        "30004": REJECTED,  # blocked
        "30005": INVALID_RECIPIENT,  # unknown handset
        "30006": INVALID_RECIPIENT,  # landline or unreachable carrier
        "30007": REJECTED,  # filtered
        "30008": TRANSIENT,  # unknown
        "30010": REJECTED,  # above the highest price
        "30017": TRANSIENT,  # the carrier's network is congested
        "30022": LIMITED,
        "30023": LIMITED,
        "30034": SENDER,  # not registered for 10DLC
    },
)

_DELIVERED = frozenset({"delivered", "read"})
_FAILED = frozenset({"undelivered", "failed", "canceled", "partially_delivered"})


class TwilioSms:
    """Writes the requests of the API and reads its answers.

    Args:
        sender: the field and the value that name the sender of messages which name none.
    """

    def __init__(
        self,
        account: twilio.TwilioAccount,
        *,
        sender: tuple[str, str],
        receipts_url: str,
        classifier: Classifier,
        clock: Clock = utc_now,
    ) -> None:
        self._account, self._sender, self._receipts_url = account, sender, receipts_url
        self._classifier, self._clock = classifier, clock

    async def request(self, message: SmsMessage, attempt: Attempt) -> Request | Outcome:
        account = self._account.meant(message.mode)
        name, value = ("From", message.sender) if message.sender else self._sender
        if message.mode is Mode.TEST:
            name, value = "From", twilio.TEST_NUMBER
        fields = {"To": message.to, name: value, "Body": message.body}
        if account.callbacks:
            fields["StatusCallback"] = callback_url(self._receipts_url, attempt.message_id)
        if (seconds := self._validity(message)) is not None:
            fields["ValidityPeriod"] = str(seconds)
        return form_request(account.url("Messages.json"), fields, account.headers)

    def read(self, message: SmsMessage, answer: Answer) -> Outcome:
        response = twilio.words_of(answer)
        return self._classifier.answered(
            response,
            answer,
            own_sender=message.sender is not None,
            is_success=twilio.is_success(answer),
        )

    def probe(self) -> Request:
        return self._account.probe()

    def _validity(self, message: SmsMessage) -> int | None:
        """Whole seconds for which Twilio may try; None where its own bound is shorter."""
        if message.expires_at is None:
            return None
        left = int((message.expires_at - self._clock()).total_seconds())
        return None if left >= LONGEST_VALIDITY else max(1, left)


class TwilioSmsReceipts:
    """Reads status callbacks and what people write to our numbers; both are signed forms."""

    def __init__(self, keys: twilio.Keys, *, classifier: Classifier, clock: Clock) -> None:
        self._keys, self._classifier, self._clock = keys, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        fields = twilio.verified(headers, body, url, keys=self._keys)
        if "MessageStatus" not in fields and "Body" in fields:
            return [_inbound(fields)]
        status = fields.get("MessageStatus") or fields.get("SmsStatus", "")
        if status not in _DELIVERED | _FAILED:
            return []  # on its way
        return [self._receipt(fields, status).of_ours(message_id_in(url))]

    def _receipt(self, fields: Mapping[str, str], status: str) -> UnmatchedReceipt:
        code = fields.get("ErrorCode") or None
        delivered = status in _DELIVERED
        meaning = None if delivered else self._classifier.of_receipt(code)
        return UnmatchedReceipt(
            delivered=delivered,
            occurred_at=self._clock(),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else None,
            response=ProviderResponse(
                provider_message_id=fields.get("MessageSid") or fields.get("SmsSid"),
                code=code or status,
                detail=fields.get("ErrorMessage") or status,
                raw=json.dumps(fields, ensure_ascii=False),
            ),
        )


def _inbound(fields: Mapping[str, str]) -> Inbound:
    return Inbound(
        from_=fields.get("From", ""),
        to=fields.get("To", ""),
        text=fields["Body"],
        stop=fields.get("OptOutType") == "STOP",
    )


class TwilioSmsOptions(twilio.TwilioOptions):
    """The account, and the sender of messages that name none: one of these two.

    Attributes:
        sender: a number or a name.
        messaging_service_sid: a messaging service, which chooses the sender.
    """

    sender: Text | None = Field(alias="from", default=None)
    messaging_service_sid: Text | None = None

    @model_validator(mode="after")
    def _check_sender(self) -> Self:
        if (self.sender is None) is (self.messaging_service_sid is None):
            raise WrongValueError("either this or messaging_service_sid", key="from")
        return self

    @property
    def sender_field(self) -> tuple[str, str]:
        """The field of a request that names the sender, and its value."""
        if self.messaging_service_sid is not None:
            return "MessagingServiceSid", self.messaging_service_sid
        return "From", self.sender or ""


def _build(context: ProviderContext[TwilioSmsOptions]) -> HttpProvider[SmsMessage]:
    codec = TwilioSms(
        twilio.account_of(context),
        sender=context.options.sender_field,
        receipts_url=context.receipts_url,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    transport = transport_of(context)
    return HttpProvider(context.name, codec, transport, probe_problem=twilio.probe_problem)


def _receipts(context: ProviderContext[TwilioSmsOptions], clock: Clock) -> TwilioSmsReceipts:
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    keys = twilio.signing_keys(context.options)
    return TwilioSmsReceipts(keys, classifier=classifier, clock=clock)


TWILIO = ProviderType(
    options=TwilioSmsOptions, build=_build, receipts=_receipts, modes=twilio.modes
)
