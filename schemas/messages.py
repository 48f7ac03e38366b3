"""The messages: one frozen record a channel, over one envelope.

The producer builds them from what a workflow asked, the codec turns them into Avro, and a channel
consumer hands them to a provider. Field names are those of the `.avsc` files, but for `from`, which
Python reserves: it is `sender` here. A repr shows the id and nothing of the recipient or the body.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import ClassVar
from uuid import UUID

from schemas.vocabulary import Channel, Mode, OnDoubt, Platform, Priority


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Envelope:
    """What every message has, whatever its channel.

    Args:
        id: UUIDv7; the idempotency key of the topics.
        tenant: the company on whose behalf it is sent.
        created_at: when it was accepted.
        customer_id: the tenant's own id of the person reached.
        workflow: what asked for it.
        send_at: not to be sent before; expires_at: not to be sent after.
        on_doubt: what to do when an answer is lost; the channel's setting when None.
        metadata: the sender's own words, carried through untouched.
        traceparent: W3C trace context.
        bypass_suppression: for the few that law requires: no suppression list holds it back.
        mode: whether it is meant to arrive.
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
        """Who is reached, as one string: what history is searched by and order is kept for."""
        raise NotImplementedError

    @property
    def recipients(self) -> tuple[str, ...]:
        """Whom it may reach one without the others: a person's devices; else the recipient."""
        return (self.recipient,)

    @property
    def key(self) -> str:
        """The Kafka key: one person's messages on a channel stay in order."""
        return f"{self.tenant}:{self.recipient}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SmsMessage(Envelope):
    """A text message. `to` and `sender` are E.164 numbers (a sender may be alphanumeric)."""

    channel: ClassVar[Channel] = Channel.SMS

    to: str
    body: str
    sender: str | None = None

    @property
    def recipient(self) -> str:
        return self.to


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Attachment:
    """A file inside an e-mail; `content` is its bytes. One with a `content_id` is shown in its
    place in the html, which names it as `cid:…`."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None

    def __repr__(self) -> str:
        return f"Attachment({len(self.content)} bytes of {self.content_type})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EmailMessage(Envelope):
    """An e-mail. Addresses may carry display names; `to` is one address.

    `unsubscribe_url` takes the recipient off the list with one POST (RFC 8058).
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
        return self.to.rpartition("<")[2].rstrip("> ").strip()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WebPushSubscription:
    """What a browser hands out when a person allows notifications (RFC 8030, RFC 8291)."""

    endpoint: str
    p256dh: str
    auth: str

    def __repr__(self) -> str:
        return "WebPushSubscription(…)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PushMessage(Envelope):
    """A notification to one person's devices: `tokens`, or one web-push `subscription`.

    `ttl` is in seconds; `collapse_key` lets a newer notification replace an older one.
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
        if self.subscription is not None:
            return self.subscription.endpoint
        return self.tokens[0] if self.tokens else ""

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.tokens)) or (self.recipient,)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VoiceMessage(Envelope):
    """A call that speaks `text` or plays `audio_url`, `repeat` times.

    `language` is a BCP 47 tag; `voice` is the provider's name of a voice.
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
