"""Text messages by Amazon SNS: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html

The runner calls it like every provider. It is the plain way of an AWS account to write to a phone:
no configuration set, no topic. SNS calls no webhook: what becomes of a message stands in CloudWatch
alone, so that `sent` is the last that is known here. It has no idempotency key, and carries no id
of ours.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from comms.platform.clock import Clock, utc_now
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    INVALID_RECIPIENT,
    LIMITED,
    REJECTED,
    TRANSIENT,
    Classifier,
    ErrorTable,
)
from consumers.sdk.http_provider import HttpProvider, Request, form_request, transport_of
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import Text
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.vendors import sigv4
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage

SERVICE, VERSION = "sns", "2010-03-31"

# Codes of errors, some with the parameter that they say is wrong; beside Publish's own,
# https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html
CODES = ErrorTable(
    source="https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors",
    codes={
        # The recipient
        "InvalidParameter PhoneNumber": INVALID_RECIPIENT,
        # The content
        "InvalidParameter Message": CONTENT,
        "InvalidParameter Empty": CONTENT,
        "InvalidParameter": REJECTED,
        "InvalidParameterValue": REJECTED,
        "ParameterValueInvalid": REJECTED,
        "ValidationError": REJECTED,
        "ValidationException": REJECTED,
        # The account
        "AccessDenied": ACCOUNT,
        "AccessDeniedException": ACCOUNT,
        "AuthorizationError": ACCOUNT,
        "ExpiredToken": ACCOUNT,
        "ExpiredTokenException": ACCOUNT,
        "IncompleteSignature": ACCOUNT,
        "InvalidClientTokenId": ACCOUNT,
        "InvalidSecurity": ACCOUNT,
        "MissingAuthenticationToken": ACCOUNT,
        "NotAuthorized": ACCOUNT,
        "OptInRequired": ACCOUNT,
        "RequestExpired": ACCOUNT,  # our clock is wrong
        "SignatureDoesNotMatch": ACCOUNT,
        "UnrecognizedClientException": ACCOUNT,
        # The moment
        "Throttled": LIMITED,
        "Throttling": LIMITED,
        "ThrottlingException": LIMITED,
        "InternalError": TRANSIENT,
        "InternalFailure": TRANSIENT,
        "ServiceUnavailable": TRANSIENT,
    },
)

_NUMBER = re.compile(r"\+?\d+")
_PARAMETER = re.compile(r"Invalid parameter: (\w+)")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SnsAccount:
    """Whose account is used, and how its texts are sent.

    Args:
        sender: a name, or a number of the account; None where AWS shall choose.
    """

    base_url: str
    region: str
    credentials: sigv4.Credentials
    sender: str | None
    message_type: str


class SnsSms:
    """Writes the requests of the API and reads its answers."""

    def __init__(
        self, account: SnsAccount, *, classifier: Classifier, clock: Clock = utc_now
    ) -> None:
        self._account, self._classifier, self._clock = account, classifier, clock

    async def request(self, message: SmsMessage, attempt: Attempt) -> Request | Outcome:
        del attempt  # there is nowhere to put our id
        attributes = {"AWS.SNS.SMS.SMSType": self._account.message_type}
        sender = message.sender or self._account.sender
        if sender is not None:
            attributes[_attribute_of(sender)] = sender
        fields = {"PhoneNumber": message.to, "Message": message.body, **_listed(attributes)}
        return self._signed("Publish", fields)

    def read(self, message: SmsMessage, answer: Answer) -> Outcome:
        detail = _element(answer.text, "Message")
        response = ProviderResponse(
            provider_message_id=_element(answer.text, "MessageId"),
            code=_code(_element(answer.text, "Code") or str(answer.status), detail),
            detail=detail,
            raw=answer.text,
        )
        return self._classifier.answered(response, answer, own_sender=message.sender is not None)

    def probe(self) -> Request:
        """The account's own defaults for texts."""
        return self._signed("GetSMSAttributes", {})

    def _signed(self, action: str, fields: Mapping[str, str]) -> Request:
        account, url = self._account, f"{self._account.base_url}/"
        unsigned = form_request(url, {"Action": action, "Version": VERSION, **fields}, {})
        headers = sigv4.signed(
            "POST",
            url,
            headers=unsigned.headers,
            body=unsigned.body,
            service=sigv4.Service(name=SERVICE, region=account.region),
            credentials=account.credentials,
            now=self._clock(),
        )
        return Request(url=url, headers=headers, body=unsigned.body)


def _attribute_of(sender: str) -> str:
    """What a sender is called: https://docs.aws.amazon.com/sns/latest/dg/sms_publish-to-phone.html"""
    return "AWS.MM.SMS.OriginationNumber" if _NUMBER.fullmatch(sender) else "AWS.SNS.SMS.SenderID"


def _listed(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes as a form has them: numbered, each of its type."""
    fields: dict[str, str] = {}
    for number, (name, value) in enumerate(attributes.items(), start=1):
        entry = f"MessageAttributes.entry.{number}"
        fields |= {f"{entry}.Name": name, f"{entry}.Value.DataType": "String"}
        fields[f"{entry}.Value.StringValue"] = value
    return fields


def _element(text: str, name: str) -> str | None:
    """The text of an element; SNS's answers have each of ours once, with no others in it."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found[1]).strip() or None if found else None


def _code(code: str, detail: str | None) -> str:
    """An error's code, with the parameter that is wrong where the table has it."""
    found = _PARAMETER.match(detail or "")
    named = f"{code} {found[1]}" if found else code
    return named if named in CODES.codes else code


class SnsSmsOptions(sigv4.AwsOptions):
    """The account, and how its texts are sent.

    Attributes:
        sender: a name, or a number of the account; None if AWS is to choose.
        message_type: what the messages are for.
    """

    sender: Text | None = Field(alias="from", default=None)
    message_type: Literal["Transactional", "Promotional"] = "Transactional"


def _build(context: ProviderContext[SnsSmsOptions]) -> HttpProvider[SmsMessage]:
    options = context.options
    account = SnsAccount(
        base_url=options.url_of(SERVICE),
        region=options.region,
        credentials=options.credentials(),
        sender=options.sender,
        message_type=options.message_type,
    )
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    codec = SnsSms(account, classifier=classifier)
    return HttpProvider(context.name, codec, transport_of(context))


SNS = ProviderType(options=SnsSmsOptions, build=_build)
