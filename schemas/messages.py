"""The messages: one frozen record for each channel, with a common envelope.

The producer builds a message from a request, the codec encodes it in Avro, and a channel process
passes it to a provider. Field names are those of the `.avsc` files, except `from`: Python reserves
that word, so it is `sender` here. A repr shows the id, and nothing of the recipient or the content.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import ClassVar
from uuid import UUID

from schemas.vocabulary import Channel, Mode, OnDoubt, Platform, Priority


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MessageHeader:
    """The fields of a message that its status events carry: everything but its content.

    The producer makes one from the columns it keeps. A message has the same fields itself, so it
    needs none. `mode` is None where it is not known.
    """

    id: UUID
    tenant: str
    channel: Channel
    recipient: str
    created_at: datetime
    customer_id: str | None = None
    workflow: str | None = None
    priority: Priority = Priority.NORMAL
    send_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    mode: Mode | None = None

    def __repr__(self) -> str:
        return f"MessageHeader(id={self.id})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Envelope:
    """The fields that every message has, whatever its channel.

    Args:
        id: a UUIDv7; the idempotency key of the topics.
        tenant: the tenant on whose behalf the message is sent.
        created_at: when the message was accepted.
        customer_id: the tenant's own id of the recipient.
        workflow: the name of the workflow that requested the message.
        priority: the lane that the message takes.
        send_at: the message is not sent before this time.
        expires_at: the message is not sent after this time.
        on_doubt: what to do if the answer of a provider was lost; None for the channel's setting.
        metadata: key-value pairs of the sender, passed through unchanged.
        traceparent: the W3C trace context of the request.
        bypass_suppression: for the few messages that the law requires: the message is sent although
            the recipient is on the suppression list.
        mode: whether the message is to be delivered, or is a test.
    """

    channel: ClassVar[Channel]

    id: UUID
    tenant: str
    created_at: datetime
    customer_id: str | None = None
    workflow: str | None = None
    priority: Priority = Priority.NORMAL
    send_at: datetime | None = None
    expires_at: datetime | None = None
    on_doubt: OnDoubt | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    bypass_suppression: bool = False
    mode: Mode = Mode.LIVE

    @property
    def recipient(self) -> str:
        """The recipient as one string. It is used to search the history and to keep the order."""
        raise NotImplementedError

    @property
    def recipients(self) -> tuple[str, ...]:
        """The recipients that may be reached separately: the devices of a push message; for other
        channels, the one recipient."""
        return (self.recipient,)

    @property
    def key(self) -> str:
        """The Kafka key, which keeps the messages of one recipient on a channel in order."""
        return f"{self.tenant}:{self.recipient}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id})"


HeaderSource = (
    MessageHeader | Envelope
)  # what a status event is built from; a message copies nothing


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SmsMessage(Envelope):
    """A text message. `to` is an E.164 number; `sender` may also be a short code or a name."""

    channel: ClassVar[Channel] = Channel.SMS

    to: str
    body: str
    sender: str | None = None

    @property
    def recipient(self) -> str:
        """The number in `to`."""
        return self.to


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Attachment:
    """A file in an e-mail. One with a `content_id` is shown inline, where the HTML has `cid:…`."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None

    def __repr__(self) -> str:
        return f"Attachment({len(self.content)} bytes of {self.content_type})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EmailMessage(Envelope):
    """An e-mail. `to` is one address; addresses may have display names.

    A POST to `unsubscribe_url` takes the recipient off the list (RFC 8058).
    """

    channel: ClassVar[Channel] = Channel.EMAIL

    to: str
    subject: str
    text: str | None = None
    html: str | None = None
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None
    sender: str | None = None
    attachments: tuple[Attachment, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    unsubscribe_url: str | None = None

    @property
    def recipient(self) -> str:
        """The bare address in `to`, without its display name."""
        return self.to.rpartition("<")[2].rstrip("> ").strip()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WebPushSubscription:
    """The subscription that a browser creates when a person allows notifications (RFC 8030, RFC
    8291)."""

    endpoint: str
    p256dh: str
    auth: str

    def __repr__(self) -> str:
        return "WebPushSubscription(…)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PushMessage(Envelope):
    """A notification to the devices of one person: `tokens`, or one Web Push `subscription`.

    `ttl` is in seconds. A newer notification with the same `collapse_key` replaces an older one.
    """

    channel: ClassVar[Channel] = Channel.PUSH

    title: str
    body: str
    tokens: tuple[str, ...] = ()
    subscription: WebPushSubscription | None = None
    platform: Platform | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    badge: int | None = None
    collapse_key: str | None = None
    ttl: int | None = None

    @property
    def recipient(self) -> str:
        """The endpoint of the subscription, or the first device token."""
        if self.subscription is not None:
            return self.subscription.endpoint
        return self.tokens[0] if self.tokens else ""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The device tokens, each once, or the endpoint of the subscription."""
        return tuple(dict.fromkeys(self.tokens)) or (self.recipient,)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VoiceMessage(Envelope):
    """A voice call that speaks `text` or plays `audio_url`, `repeat` times.

    `language` is a BCP 47 tag. `voice` is the provider's name of a voice.
    """

    channel: ClassVar[Channel] = Channel.VOICE

    to: str
    text: str | None = None
    audio_url: str | None = None
    language: str | None = None
    voice: str | None = None
    repeat: int = 1
    sender: str | None = None

    @property
    def recipient(self) -> str:
        """The number in `to`."""
        return self.to


Message = SmsMessage | EmailMessage | PushMessage | VoiceMessage

RECORD_OF: Mapping[Channel, type[Message]] = MappingProxyType(
    {
        Channel.SMS: SmsMessage,
        Channel.EMAIL: EmailMessage,
        Channel.PUSH: PushMessage,
        Channel.VOICE: VoiceMessage,
    }
)
