"""Calls by Twilio: https://www.twilio.com/docs/voice/api/call-resource

The runner calls it like every provider. What is said travels inside the request (TwiML), so that
Twilio asks us nothing while the call lasts; our id travels in the address for receipts, of which
there is one, when the call has ended. Twilio has no idempotency key.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from comms.platform.clock import Clock
from consumers.sdk.error_codes import (
    ACCOUNT,
    INVALID_RECIPIENT,
    LIMITED,
    REJECTED,
    SENDER,
    TRANSIENT,
    Classifier,
    ErrorTable,
    reason_of_failure,
)
from consumers.sdk.http_provider import HttpProvider, Request, form_request, transport_of
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import Text
from consumers.sdk.outcomes import Outcome, Refused
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipts import ReceiptEvent, UnmatchedReceipt, callback_url, message_id_in
from consumers.vendors import twilio
from schemas.events import ProviderResponse
from schemas.messages import VoiceMessage
from schemas.vocabulary import Mode, Reason

LONGEST_TWIML = 4_000  # characters, marks included; Twilio's own bound

# Codes of answers and of receipts: https://www.twilio.com/docs/api/errors. `sip:` rows are what the
# network answered to a call that failed.
CODES = ErrorTable(
    source=twilio.ERRORS_PAGE,
    codes={
        **twilio.CODES,
        # The recipient
        "13223": INVALID_RECIPIENT,  # not a number
        "13224": INVALID_RECIPIENT,  # not a number that exists
        "21214": INVALID_RECIPIENT,  # 'To' cannot be reached
        "13225": REJECTED,  # a number that may not be called
        "13227": REJECTED,  # its country is not enabled: calls to others are not stopped
        "21215": REJECTED,
        "21216": REJECTED,  # blocked
        "21219": REJECTED,  # a trial account may call verified numbers only
        # The sender
        "21210": SENDER,  # not verified
        "21213": SENDER,
        # The account
        "10001": ACCOUNT,  # not active
        "10002": ACCOUNT,  # a trial account may not do this
        # The moment
        "10004": LIMITED,  # too many calls at once
        # The network
        "sip:404": INVALID_RECIPIENT,
        "sip:410": INVALID_RECIPIENT,
        "sip:484": INVALID_RECIPIENT,
        "sip:604": INVALID_RECIPIENT,
        "sip:403": REJECTED,
        "sip:603": REJECTED,
        "sip:607": REJECTED,  # the person calls it unwanted
        "sip:608": REJECTED,
        "sip:408": TRANSIENT,
        "sip:480": TRANSIENT,
        "sip:487": TRANSIENT,
        "sip:500": TRANSIENT,
        "sip:502": TRANSIENT,
        "sip:503": TRANSIENT,
        "sip:504": TRANSIENT,
    },
)

_ENDED = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
# Spoken to somebody, or onto a machine that had finished its greeting; not into the greeting.
_HEARD = frozenset(
    {"human", "unknown", "machine_end_beep", "machine_end_silence", "machine_end_other"}
)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class TwilioVoiceOptions(twilio.TwilioOptions):
    """The account, and how calls are made.

    Attributes:
        sender: the number that calls, for messages that name none.
        machine_detection: `Enable` or `DetectMessageEnd`, if Twilio is to find out whether a person
            or a machine answers.
        ring_seconds: how long the phone rings before the call counts as not answered.
    """

    sender: Text = Field(alias="from")
    machine_detection: Literal["none", "Enable", "DetectMessageEnd"] = "none"
    ring_seconds: Annotated[int, Field(ge=5, le=600)] = 60


def twiml(message: VoiceMessage) -> str:
    """What Twilio shall say or play, in its language."""
    loop = f' loop="{message.repeat}"'
    if message.audio_url is not None:
        return f"<Response><Play{loop}>{_escaped(message.audio_url)}</Play></Response>"
    said = {"language": message.language, "voice": message.voice}
    how = "".join(f' {name}="{_escaped(value)}"' for name, value in said.items() if value)
    return f"<Response><Say{how}{loop}>{_escaped(message.text or '')}</Say></Response>"


def _escaped(text: str) -> str:
    return html.escape(_NOT_XML.sub(" ", text))


class TwilioVoice:
    """Writes the requests of the API and reads its answers."""

    def __init__(
        self,
        account: twilio.TwilioAccount,
        options: TwilioVoiceOptions,
        *,
        receipts_url: str,
        classifier: Classifier,
    ) -> None:
        self._account = account
        self._options = options
        self._receipts_url = receipts_url
        self._classifier = classifier

    async def request(self, message: VoiceMessage, attempt: Attempt) -> Request | Outcome:
        said = twiml(message)
        if len(said) > LONGEST_TWIML:
            detail = f"longer than the {LONGEST_TWIML} characters that the provider takes"
            return Refused(reason=Reason.INVALID_CONTENT, response=ProviderResponse(detail=detail))
        account, is_test = self._account.meant(message.mode), message.mode is Mode.TEST
        fields = {
            "To": message.to,
            "From": twilio.TEST_NUMBER if is_test else message.sender or self._options.sender,
            "Twiml": said,
            "Timeout": str(self._options.ring_seconds),
        }
        if self._options.machine_detection != "none":
            fields["MachineDetection"] = self._options.machine_detection
        if account.callbacks:
            fields["StatusCallback"] = callback_url(self._receipts_url, attempt.message_id)
        return form_request(account.url("Calls.json"), fields, account.headers)

    def read(self, message: VoiceMessage, answer: Answer) -> Outcome:
        response = twilio.words_of(answer)
        return self._classifier.answered(
            response,
            answer,
            own_sender=message.sender is not None,
            is_success=twilio.is_success(answer),
        )

    def probe(self) -> Request:
        return self._account.probe()


class TwilioVoiceReceipts:
    """Reads status callbacks, which are signed forms."""

    def __init__(self, keys: twilio.Keys, *, classifier: Classifier, clock: Clock) -> None:
        self._keys, self._classifier, self._clock = keys, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        fields = twilio.verified(headers, body, url, keys=self._keys)
        status = fields.get("CallStatus", "")
        if status not in _ENDED:
            return []  # it rings, or somebody listens
        found = self._completed(fields) if status == "completed" else self._failed(fields, status)
        return [found.of_ours(message_id_in(url))]

    def _completed(self, fields: Mapping[str, str]) -> UnmatchedReceipt:
        """Who answered is the code, so that calls which a machine took can be told apart."""
        answered_by = fields.get("AnsweredBy") or None
        who = answered_by or "somebody or something"
        return UnmatchedReceipt(
            delivered=answered_by is None or answered_by in _HEARD,
            occurred_at=self._clock(),
            response=_provider_response(fields, answered_by or "completed", f"answered by {who}"),
        )

    def _failed(self, fields: Mapping[str, str], status: str) -> UnmatchedReceipt:
        code = fields.get("ErrorCode") or None
        if code is None and status == "failed" and fields.get("SipResponseCode"):
            code = f"sip:{fields['SipResponseCode']}"
        meaning = self._classifier.of_receipt(code)
        return UnmatchedReceipt(
            delivered=False,
            occurred_at=self._clock(),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else None,
            response=_provider_response(
                fields, code or status, fields.get("ErrorMessage") or status
            ),
        )


def _provider_response(fields: Mapping[str, str], code: str, detail: str) -> ProviderResponse:
    return ProviderResponse(
        provider_message_id=fields.get("CallSid"),
        code=code,
        detail=detail,
        raw=json.dumps(fields, ensure_ascii=False),
    )


def _build(context: ProviderContext[TwilioVoiceOptions]) -> HttpProvider[VoiceMessage]:
    codec = TwilioVoice(
        twilio.account_of(context),
        context.options,
        receipts_url=context.receipts_url,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    transport = transport_of(context)
    return HttpProvider(context.name, codec, transport, probe_problem=twilio.probe_problem)


def _receipts(context: ProviderContext[TwilioVoiceOptions], clock: Clock) -> TwilioVoiceReceipts:
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    keys = twilio.signing_keys(context.options)
    return TwilioVoiceReceipts(keys, classifier=classifier, clock=clock)


TWILIO = ProviderType(
    options=TwilioVoiceOptions, build=_build, receipts=_receipts, modes=twilio.modes
)
