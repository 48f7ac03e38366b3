"""E-mail by Amazon SES, its API of version 2:
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html

The runner calls it like every provider. SES is given the whole mail as `consumers.email.mime`
writes it. Its events come as notifications of an SNS topic, with the tags of the mail that they are
about.
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import Field

from comms.platform.clock import Clock, utc_now
from consumers.email.mime import compose
from consumers.email.parts import MARK, MailAddress, mark_of, ours, written
from consumers.email.simulators import unless_simulated
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    GONE,
    INVALID_RECIPIENT,
    LIMITED,
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
    json_object,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import Text
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_and_test
from consumers.sdk.receipts import (
    Receipt,
    ReceiptParser,
    UnmatchedReceipt,
    UnreadableReceiptError,
    moment,
)
from consumers.sdk.unconfigured import UnconfiguredReceipts
from consumers.vendors import sigv4, sns
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage
from schemas.vocabulary import Reason, SuppressionReason

# Names of errors, some with what their message is about, and events with their type:
# https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
CODES = ErrorTable(
    source="https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html#API_SendEmail_Errors",
    codes={
        # The recipient and the content
        "BadRequestException address": INVALID_RECIPIENT,
        "BadRequestException": CONTENT,
        "MessageRejected": REJECTED,
        "MessageRejected to": REJECTED,  # in the sandbox, to somebody who is not verified
        # The sender
        "MessageRejected from": SENDER,  # not verified
        "MailFromDomainNotVerifiedException": SENDER,
        "AccessDeniedException": SENDER,  # this key may not send, or not for this sender
        # The account
        "AccountSuspendedException": ACCOUNT,
        "SendingPausedException": ACCOUNT,
        "LimitExceededException": ACCOUNT,
        "NotFoundException": ACCOUNT,  # no such configuration set
        "TooManyRequestsException day": ACCOUNT,  # the quota of 24 hours
        "UnrecognizedClientException": ACCOUNT,
        "InvalidClientTokenId": ACCOUNT,
        "InvalidSignatureException": ACCOUNT,  # the key, or our clock
        "SignatureDoesNotMatch": ACCOUNT,
        "IncompleteSignatureException": ACCOUNT,
        "MissingAuthenticationTokenException": ACCOUNT,
        "ExpiredTokenException": ACCOUNT,
        "OptInRequired": ACCOUNT,
        # The moment
        "TooManyRequestsException": LIMITED,
        "ThrottlingException": LIMITED,
        "InternalFailure": TRANSIENT,
        "InternalServiceErrorException": TRANSIENT,
        "ServiceUnavailable": TRANSIENT,
        "ServiceUnavailableException": TRANSIENT,
        # Events
        "Bounce Permanent": GONE,
        "Bounce Transient": TRANSIENT,
        "Bounce Undetermined": TRANSIENT,
        "Bounce": REJECTED,
        "Reject": CONTENT,  # a virus
        "Rendering Failure": CONTENT,
        "Complaint OnAccountSuppressionList": Meaning(
            fault=Fault.PERMANENT, reason=Reason.SUPPRESSED, suppress=SuppressionReason.COMPLAINT
        ),
    },
)

_SERVICE = "ses"
_EXAMPLE = "success@simulator.amazonses.com"
_ADDRESS = re.compile(
    r"illegal address|missing final '@domain'|local address contains|domain (?:contains|starts)",
    re.IGNORECASE,
)
_UNVERIFIED = re.compile(r"address is not verified", re.IGNORECASE)
_DAY = re.compile(r"daily", re.IGNORECASE)


class Ses:
    """Writes the requests of the API and reads its answers.

    Args:
        sender: the From of messages that name none; configuration_set: by its name.
    """

    def __init__(
        self,
        *,
        base_url: str,
        region: str,
        credentials: sigv4.Credentials,
        sender: str,
        configuration_set: str | None,
        classifier: Classifier,
        clock: Clock = utc_now,
    ) -> None:
        self._base_url, self._credentials = base_url, credentials
        self._service = sigv4.Service(name=_SERVICE, region=region)
        self._sender, self._configuration_set = sender, configuration_set
        self._classifier, self._clock = classifier, clock

    async def request(self, message: EmailMessage, attempt: Attempt) -> Request | Outcome:
        del attempt  # SES has no idempotency key
        if (refused := unless_simulated(message, _is_simulated, example=_EXAMPLE)) is not None:
            return refused
        return await written(message, lambda: self._write(message))

    def read(self, message: EmailMessage, answer: Answer) -> Outcome:
        said = json_object(answer.text)
        response = ProviderResponse(
            provider_message_id=text_or_none(said.get("MessageId")),
            code=_code(message, said, answer),
            detail=text_or_none(said.get("message") or said.get("Message")),
            raw=answer.text,
        )
        return self._classifier.answered(response, answer, own_sender=message.sender is not None)

    def probe(self) -> Request:
        return self._sign(Request(method="GET", url=f"{self._base_url}/v2/email/account"))

    def _write(self, message: EmailMessage) -> Request:
        mail = compose(message, default_from=self._sender)
        # Who gets it; whom it names stands in the mail itself.
        value: dict[str, object] = {
            "Destination": {
                "ToAddresses": [mail.to],
                **({"BccAddresses": list(mail.others)} if mail.others else {}),
            },
            "Content": {"Raw": {"Data": b64encode(mail.content).decode()}},
            "EmailTags": [{"Name": MARK, "Value": mark_of(message)}],
        }
        if self._configuration_set is not None:
            value["ConfigurationSetName"] = self._configuration_set
        return self._sign(json_request(f"{self._base_url}/v2/email/outbound-emails", value, {}))

    def _sign(self, request: Request) -> Request:
        headers = sigv4.signed(
            request.method,
            request.url,
            headers=request.headers,
            body=request.body,
            service=self._service,
            credentials=self._credentials,
            now=self._clock(),
        )
        return Request(method=request.method, url=request.url, headers=headers, body=request.body)


class SesReceipts:
    """Reads events out of an SNS topic's notifications, one event each; it may be about several
    recipients."""

    def __init__(self, topic: sns.Topic, *, classifier: Classifier, clock: Clock) -> None:
        self._topic, self._classifier, self._clock = topic, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Receipt]:
        del headers, url  # nothing of them is signed
        now = self._clock()
        text = self._topic.message_in(body, now=now)
        if text is None:
            return []
        event = json_object(text)
        if not event:
            # What SNS itself says of a topic, and tests from its console
            raise UnreadableReceiptError("no event")
        said = self._unplaced(event, text, now)
        if said is None:
            return []
        tags = _within(_within(event, "mail"), "tags").get(MARK)
        mark = tags[0] if isinstance(tags, list) and tags else None
        found = [one for who in _recipients(event) for one in ours(said, mark=mark, recipient=who)]
        return found[:1]

    def _unplaced(
        self, event: Mapping[str, object], raw: str, now: datetime
    ) -> UnmatchedReceipt | None:
        kind = _kind(event)
        if kind not in ("Delivery", "Complaint", "Bounce", "Reject", "Rendering Failure"):
            return None  # on its way, or looked at
        about = _within(event, kind.lower())
        code = " ".join(filter(None, (kind, _type(kind, about))))
        taken = kind == "Delivery" or code == "Complaint"  # who complains has it
        meaning = None if taken else self._classifier.of_receipt(code) or REJECTED
        complained = SuppressionReason.COMPLAINT if kind == "Complaint" else None
        return UnmatchedReceipt(
            delivered=taken,
            occurred_at=moment(about.get("timestamp"), otherwise=now),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else complained,
            response=ProviderResponse(
                provider_message_id=text_or_none(_within(event, "mail").get("messageId")),
                code=code,
                detail=text_or_none(about.get("smtpResponse") or about.get("reason")),
                raw=raw,
            ),
        )


def _kind(event: Mapping[str, object]) -> str:
    """`eventType` where events are published, `notificationType` where an identity tells them."""
    return str(event.get("eventType") or event.get("notificationType"))


def _type(kind: str, about: Mapping[str, object]) -> str | None:
    return text_or_none(about.get({"Bounce": "bounceType"}.get(kind, "complaintSubType")))


def _recipients(event: Mapping[str, object]) -> Sequence[object]:
    """Whom an event is about; everybody, where it is about the mail as a whole."""
    names = {"Bounce": "bouncedRecipients", "Complaint": "complainedRecipients"}
    kind = _kind(event)
    about = _within(event, kind.lower())
    found = about.get(names.get(kind, "recipients")) or _within(event, "mail").get("destination")
    listed = found if isinstance(found, list) else []
    return [one.get("emailAddress") if isinstance(one, dict) else one for one in listed]


def _within(event: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = event.get(name)
    return value if isinstance(value, dict) else {}


def _code(message: EmailMessage, said: Mapping[str, object], answer: Answer) -> str:
    """The name of an error, with what its message is about where that decides."""
    named = answer.headers.get("x-amzn-ErrorType") or str(said.get("__type") or answer.status)
    name = named.partition(":")[0].rpartition("#")[2]
    detail = str(said.get("message") or said.get("Message") or "")
    copies = bool(message.cc or message.bcc)  # it may be the address of one
    if name == "BadRequestException" and _ADDRESS.search(detail) and not copies:
        return f"{name} address"
    if name == "MessageRejected" and _UNVERIFIED.search(detail):
        return f"{name} to" if message.recipient.lower() in detail.lower() else f"{name} from"
    if name == "TooManyRequestsException" and _DAY.search(detail):
        return f"{name} day"
    return name


def _is_simulated(address: str) -> bool:
    """https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html#send-email-simulator"""
    return address.endswith("@simulator.amazonses.com")


class SesOptions(sigv4.AwsOptions):
    """The account, and what is said with every message.

    Attributes:
        sender: the sender of messages that name none.
        configuration_set: which events are published, and where.
        topic_arn: the SNS topic of the events; None for no receipts.
    """

    sender: MailAddress = Field(alias="from")
    configuration_set: Text | None = None
    topic_arn: sns.TopicArn | None = None


def _build(context: ProviderContext[SesOptions]) -> HttpProvider[EmailMessage]:
    options = context.options
    codec = Ses(
        base_url=options.url_of("email"),
        region=options.region,
        credentials=options.credentials(),
        sender=options.sender,
        configuration_set=options.configuration_set,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    return HttpProvider(context.name, codec, transport_of(context))


def _receipts(context: ProviderContext[SesOptions], clock: Clock) -> ReceiptParser:
    arn = context.options.topic_arn
    if arn is None:
        return UnconfiguredReceipts(f"{context.name}: topic_arn is not set")
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    return SesReceipts(sns.Topic(arn), classifier=classifier, clock=clock)


SES = ProviderType(options=SesOptions, build=_build, receipts=_receipts, modes=live_and_test)
