"""What a client may ask for over HTTP, field by field.

`producer.api` parses bodies with `parse`, and `producer.building` makes messages of them; a program
that has such a document at hand may do the same. These models know shapes alone (types, names, RFC
3339); what a number or an address may be is `schemas.rules`' to say.
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

from schemas.errors import InvalidRecordError, Violation
from schemas.vocabulary import Channel, Mode, OnDoubt, Platform, Priority

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _rfc3339(value: object) -> object:
    """Refuses what pydantic would read as seconds since the epoch, or without an offset."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise ValueError("must be a time in RFC 3339 with an offset, such as 2030-01-31T09:00:00Z")


Instant = Annotated[AwareDatetime, BeforeValidator(_rfc3339, json_schema_input_type=datetime)]
Number = Annotated[
    StrictStr, Field(description="E.164 number.", examples=["+12025550100"], max_length=64)
]


def _decoded(value: object) -> object:
    """Strict base64: what is not of its alphabet is an error and not skipped."""
    if not isinstance(value, str):
        raise ValueError("must be base64 text")  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        return b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError("must be base64") from error


Base64 = Annotated[
    bytes, BeforeValidator(_decoded), WithJsonSchema({"type": "string", "format": "byte"})
]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr__(self) -> str:
        """Nothing of the recipient or the content."""
        return f"{type(self).__name__}(…)"

    __str__ = __repr__


class MessageRequest(_Shape):
    """What every message may carry, whatever its channel."""

    idempotency_key: StrictStr | None = Field(
        None,
        description="Your own name of this message: the same key is one message for ever, however"
        " often it is posted. Also taken from the `Idempotency-Key` header.",
        examples=["order-17/shipped"],
    )
    customer_id: StrictStr | None = Field(
        None, description="Your id of the person reached; history is searched by it."
    )
    workflow: StrictStr | None = Field(None, description="Name of what asks for the message.")
    priority: Priority = Field(Priority.NORMAL, description="How urgent it is.")
    send_at: Instant | None = Field(None, description="Not to be sent before; RFC 3339.")
    expires_at: Instant | None = Field(None, description="Not to be sent after; RFC 3339.")
    on_doubt: OnDoubt | None = Field(
        None,
        description="When a provider was called and its answer was lost: `resend`, or `hold` until"
        " a receipt or a person settles it. The channel's setting when left out.",
    )
    metadata: dict[StrictStr, StrictStr] = Field(
        default_factory=dict, description="Your own words, carried through untouched."
    )
    mode: Mode | None = Field(
        None,
        description="`test`: a provider's own test mode checks and answers it, and nobody is"
        " reached; `simulated`: a simulated provider alone. With an API key for tests every"
        " message is simulated.",
    )
    bypass_suppression: StrictBool = Field(
        False,
        description="For the few messages that law requires: sent although your suppression list"
        " names the recipient. The history says so.",
    )


class SmsRequest(MessageRequest):
    """A text message."""

    channel: Literal[Channel.SMS]
    to: Number
    body: StrictStr = Field(description="The text, at most 1600 characters.")
    sender: StrictStr | None = Field(
        None, alias="from", description="E.164 number, short code or alphanumeric name."
    )


class AttachmentRequest(_Shape):
    """A file inside an e-mail."""

    filename: StrictStr = Field(description="Its name, without a path.")
    content_type: StrictStr = Field(examples=["application/pdf"])
    content: Base64 = Field(description="Its bytes in base64; all together at most 5 MiB.")
    content_id: StrictStr | None = Field(
        None,
        description="For an image that the html shows in its place, as `cid:` and this id.",
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
    sender: StrictStr | None = Field(None, alias="from", description="Sender's address.")
    attachments: list[AttachmentRequest] = Field(default_factory=list)
    headers: dict[StrictStr, StrictStr] = Field(
        default_factory=dict, description="Further headers."
    )
    unsubscribe_url: StrictStr | None = Field(
        None,
        description="An https address that takes the recipient off the list with one POST; mail"
        " programs show it as a button (RFC 8058).",
    )


class SubscriptionKeys(_Shape):
    """The browser's public key and secret, base64url."""

    p256dh: StrictStr
    auth: StrictStr


class SubscriptionRequest(_Shape):
    """A Web Push subscription, as the browser hands it out (its `expirationTime` is not used)."""

    model_config = ConfigDict(extra="ignore")

    endpoint: StrictStr
    keys: SubscriptionKeys


def _shape_of_to(value: object) -> str | None:
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
    Discriminator(_shape_of_to),
    Field(description="A device token, a list of them, or a Web Push subscription."),
]


class PushRequest(MessageRequest):
    """A notification to one person's devices."""

    channel: Literal[Channel.PUSH]
    to: Devices
    title: StrictStr
    body: StrictStr
    platform: Platform | None = Field(None, description="The push service of the tokens.")
    data: dict[StrictStr, StrictStr] = Field(
        default_factory=dict, description="Values for your application."
    )
    badge: StrictInt | None = None
    collapse_key: StrictStr | None = Field(
        None, description="A newer notification with the same key replaces an older one."
    )
    ttl: StrictInt | None = Field(None, description="Seconds it is kept for an absent device.")


class VoiceRequest(MessageRequest):
    """A call that speaks `text` or plays `audio_url`."""

    channel: Literal[Channel.VOICE]
    to: Number
    text: StrictStr | None = Field(None, description="What is spoken, at most 3000 characters.")
    audio_url: StrictStr | None = Field(None, description="An https address of what is played.")
    language: StrictStr | None = Field(None, description="BCP 47 tag.", examples=["en-US"])
    voice: StrictStr | None = Field(None, description="The provider's name of a voice.")
    repeat: StrictInt = Field(1, description="How often it is said, 1 to 10.")
    sender: StrictStr | None = Field(None, alias="from", description="Calling number, E.164.")


Request = SmsRequest | EmailRequest | PushRequest | VoiceRequest
REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="channel")])
_CHANNELS = ", ".join(Channel)


def parse(document: object) -> Request:
    """The request in a JSON document (already loaded).

    Raises:
        InvalidRecordError: a field is missing, unknown or of the wrong type.
    """
    try:
        return REQUEST.validate_python(document)
    except ValidationError as error:
        raise InvalidRecordError(_violations(error)) from None


def _violations(error: ValidationError) -> tuple[Violation, ...]:
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        match item["type"]:
            case "union_tag_not_found" if item["loc"]:
                found.append(Violation("to", "must be a token, a list of them or a subscription"))
            case "union_tag_invalid" | "union_tag_not_found":
                found.append(Violation("channel", f"must be one of {_CHANNELS}"))
            case "model_attributes_type" if len(item["loc"]) <= 1:
                found.append(Violation("body", "must be a JSON object"))
            case _:
                found.append(Violation(_path(item["loc"]), _sentence(item["type"], item["msg"])))
    return tuple(dict.fromkeys(found))


_SHAPES_OF_TO = {"token", "tokens", "subscription"}


def _path(location: tuple[int | str, ...]) -> str:
    """`attachments[0].content`: the place without the names pydantic gives to alternatives."""
    path = ""
    for part in location[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in _SHAPES_OF_TO and part != "[key]":
            path += f".{part}" if path else part
    return path


def _sentence(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "no such field on this channel"
        case _:
            return message.removeprefix("Value error, ").removeprefix("Input ")


def as_asked(violation: Violation) -> Violation:
    """A violation of a record's field by the name it has in a request: push is asked by `to`."""
    field = re.sub(r"^subscription\.(p256dh|auth)", r"to.keys.\1", violation.field)
    field = re.sub(r"^(tokens|subscription)\b", "to", field)
    return Violation(field, violation.problem)
