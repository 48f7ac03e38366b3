"""The bodies of requests, as pydantic models: one for each channel.

`producer.entries` parses documents with `parse`, and `producer.building` makes messages of the
requests. Other programs that have such a document may do the same. The models check shapes only:
types, names and RFC 3339. `schemas.rules` decides which numbers and addresses are valid.
"""

import re
from base64 import b64decode
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from comms.platform.field_problems import RFC_3339
from producer.request_errors import to_violations
from schemas.errors import InvalidRecordError
from schemas.vocabulary import Channel, Mode, OnDoubt, Platform, Priority

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _check_rfc3339(value: object) -> object:
    """Refuse numbers, which pydantic reads as seconds since 1970, and times without an offset."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise ValueError(RFC_3339)


Instant = Annotated[AwareDatetime, BeforeValidator(_check_rfc3339, json_schema_input_type=datetime)]
Number = Annotated[
    StrictStr, Field(description="An E.164 number.", examples=["+12025550100"], max_length=64)
]


def _decode_base64(value: object) -> object:
    """Decode strict base64: a character outside of its alphabet is an error."""
    if not isinstance(value, str):
        raise ValueError("must be a base64 string")  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        return b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError("must be base64, such as aGVsbG8=") from error


Base64 = Annotated[
    bytes, BeforeValidator(_decode_base64), WithJsonSchema({"type": "string", "format": "byte"})
]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr__(self) -> str:
        """Return the class name only: no recipient and no content."""
        return f"{type(self).__name__}(…)"

    __str__ = __repr__


class MessageRequest(_Shape):
    """The fields that every message may have, whatever its channel."""

    idempotency_key: StrictStr | None = Field(
        None,
        description="Your own name of this message. However often you post the same key, it"
        " makes one message, for ever. The `Idempotency-Key` header is another way to send it.",
        examples=["order-17/shipped"],
    )
    customer_id: StrictStr | None = Field(
        None, description="Your own id of the recipient; you can search the history by it."
    )
    workflow: StrictStr | None = Field(None, description="The name of the workflow that sends it.")
    priority: Priority = Field(Priority.NORMAL, description="The urgency of the message.")
    send_at: Instant | None = Field(
        None, description="The message is not sent before this time; RFC 3339."
    )
    expires_at: Instant | None = Field(
        None, description="The message is not sent after this time; RFC 3339."
    )
    on_doubt: OnDoubt | None = Field(
        None,
        description="What to do if a provider was called and its answer was lost: `resend` the"
        " message, or `hold` it until a receipt or a person settles it. The default is the setting"
        " of the channel.",
    )
    metadata: dict[StrictStr, StrictStr] = Field(
        default_factory=dict, description="Your own names and values, passed through unchanged."
    )
    mode: Mode | None = Field(
        None,
        description="`test`: a provider's own test mode checks and answers the message, and does"
        " not deliver it. `simulated`: only a simulated provider is used. With an API key for"
        " tests, every message is simulated.",
    )
    bypass_suppression: StrictBool = Field(
        False,
        description="For the few messages that the law requires: send the message although the"
        " recipient is on your suppression list. The history records it.",
    )


class SmsRequest(MessageRequest):
    """A text message."""

    channel: Literal[Channel.SMS]
    to: Number
    body: StrictStr = Field(
        description="The text, at most 1600 characters. A character that takes two places counts"
        " twice."
    )
    sender: StrictStr | None = Field(
        None,
        alias="from",
        description="An E.164 number, a short code or, where networks support it, a name of at most"
        " 11 letters and digits.",
    )


class AttachmentRequest(_Shape):
    """A file in an e-mail."""

    filename: StrictStr = Field(description="The name of the file, without a path.")
    content_type: StrictStr = Field(examples=["application/pdf"])
    content: Base64 = Field(
        description="The content in base64. All attachments together may have 5 MiB."
    )
    content_id: StrictStr | None = Field(
        None,
        description="For an image that the HTML shows inline: the HTML has `cid:` and this id.",
        examples=["logo"],
    )


class EmailRequest(MessageRequest):
    """An e-mail; give `text`, `html` or both."""

    channel: Literal[Channel.EMAIL]
    to: StrictStr = Field(
        description="One address, with or without a display name.",
        examples=["Ann <ann@example.com>"],
    )
    subject: StrictStr
    text: StrictStr | None = None
    html: StrictStr | None = None
    cc: list[StrictStr] = Field(default_factory=list)
    bcc: list[StrictStr] = Field(default_factory=list)
    reply_to: StrictStr | None = None
    sender: StrictStr | None = Field(None, alias="from", description="The address of the sender.")
    attachments: list[AttachmentRequest] = Field(default_factory=list)
    headers: dict[StrictStr, StrictStr] = Field(
        default_factory=dict, description="Additional headers."
    )
    unsubscribe_url: StrictStr | None = Field(
        None,
        description="An https URL that removes the recipient from the list with one POST. Mail"
        " programs show it as a button (RFC 8058).",
    )


class SubscriptionKeys(_Shape):
    """The public key and the secret of the browser, in base64url."""

    p256dh: StrictStr
    auth: StrictStr


class SubscriptionRequest(_Shape):
    """A Web Push subscription as the browser returns it; `expirationTime` is ignored."""

    model_config = ConfigDict(extra="ignore")

    endpoint: StrictStr
    keys: SubscriptionKeys


def _variant_of_to(value: object) -> str | None:
    match value:
        case str():
            return "token"
        case list():
            return "tokens"
        case dict() | SubscriptionRequest():
            return "subscription"
        case _:
            return None


Devices = Annotated[
    Annotated[StrictStr, Tag("token")]
    | Annotated[list[StrictStr], Tag("tokens")]
    | Annotated[SubscriptionRequest, Tag("subscription")],
    Discriminator(_variant_of_to),
    Field(description="A device token, a list of them, or a Web Push subscription."),
]


class PushRequest(MessageRequest):
    """A notification to the devices of one person."""

    channel: Literal[Channel.PUSH]
    to: Devices
    title: StrictStr
    body: StrictStr
    platform: Platform | None = Field(None, description="The push service of the tokens.")
    data: dict[StrictStr, StrictStr] = Field(
        default_factory=dict, description="Names and values for your application."
    )
    badge: StrictInt | None = None
    collapse_key: StrictStr | None = Field(
        None, description="A newer notification with the same key replaces an older one."
    )
    ttl: StrictInt | None = Field(
        None, description="How long it is kept for a device that is offline, in seconds."
    )


class VoiceRequest(MessageRequest):
    """A voice call that speaks `text` or plays `audio_url`."""

    channel: Literal[Channel.VOICE]
    to: Number
    text: StrictStr | None = Field(
        None, description="The text that is spoken, at most 3000 characters."
    )
    audio_url: StrictStr | None = Field(
        None, description="The https URL of the audio that is played."
    )
    language: StrictStr | None = Field(None, description="A BCP 47 tag.", examples=["en-US"])
    voice: StrictStr | None = Field(None, description="The name of a voice at the provider.")
    repeat: StrictInt = Field(1, description="How many times it is spoken or played, 1 to 10.")
    sender: StrictStr | None = Field(None, alias="from", description="The calling number, E.164.")


ChannelRequest = SmsRequest | EmailRequest | PushRequest | VoiceRequest
REQUEST_ADAPTER: TypeAdapter[ChannelRequest] = TypeAdapter(
    Annotated[ChannelRequest, Field(discriminator="channel")]
)


def parse(document: object) -> ChannelRequest:
    """Return the request in a JSON document that is already loaded.

    Raises:
        InvalidRecordError: a field is missing, unknown or of the wrong type.
    """
    try:
        return REQUEST_ADAPTER.validate_python(document)
    except ValidationError as error:
        raise InvalidRecordError(to_violations(error)) from None
