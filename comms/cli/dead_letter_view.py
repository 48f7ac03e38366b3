"""A dead letter opened: its record's fields where it can be decoded, its bytes where it cannot.

`comms dead-letters show` prints what this makes. Without leave to show contents, whatever may tell
who is reached or what is said is left out, and is named as left out.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from comms.platform.kafka import Record
from schemas.codec import Codec
from schemas.codec import Record as Known
from schemas.errors import ContractError
from schemas.events import StatusEvent
from schemas.messages import EmailMessage, PushMessage, SmsMessage, VoiceMessage
from schemas.vocabulary import Channel

HIDDEN = "(hidden; --content shows it)"

# Fields that say neither who is reached nor what is said.
_HARMLESS = frozenset(
    {
        *("id", "tenant", "created_at", "workflow", "priority", "send_at", "expires_at"),
        *(
            "on_doubt",
            "traceparent",
            "bypass_suppression",
            "mode",
            "message_id",
            "channel",
            "status",
        ),
        *(
            "reason",
            "attempt",
            "provider",
            "occurred_at",
            "code",
            "mode",
            "platform",
            "ttl",
            "repeat",
        ),
    }
)


def opened(record: Record, channel: str, codec: Codec, *, content: bool) -> dict[str, Any]:
    """What is in a letter: `key`, and `record` or, where it is none, `problem` and `value`.

    Args:
        channel: whose record it is, as its header says; content: whether to show everything.
    """
    key = (record.key or b"").decode(errors="replace")
    shown: dict[str, Any] = {"key": key if content else _masked(key, channel)}
    try:
        known = _decoded(record.value, channel, codec)
    except ContractError as error:
        value = record.value.hex(" ") if content else HIDDEN
        return shown | {"problem": str(error), "value": value}
    return shown | {"record": _plain_fields(known, content=content)}


def _decoded(value: bytes, channel: str, codec: Codec) -> Known:
    match channel:
        case Channel.SMS:
            return codec.decode(value, SmsMessage)
        case Channel.EMAIL:
            return codec.decode(value, EmailMessage)
        case Channel.PUSH:
            return codec.decode(value, PushMessage)
        case Channel.VOICE:
            return codec.decode(value, VoiceMessage)
        case _:
            return codec.decode(value, StatusEvent)


def _masked(key: str, channel: str) -> str:
    """Of a status event it is the message's id; else tenant and recipient, or should be."""
    if channel not in set(Channel):
        return key
    tenant, colon, _ = key.partition(":")
    return f"{tenant}:…" if colon else HIDDEN


def _plain_fields(known: Known, *, content: bool) -> dict[str, Any]:
    shown = {}
    for field in fields(known):
        value = getattr(known, field.name)
        if value in (None, (), {}):
            continue
        shown[field.name] = _plain(value) if content or field.name in _HARMLESS else HIDDEN
    return shown


def _plain(value: Any) -> Any:
    match value:
        case datetime() | UUID() | bytes():
            return _text(value)
        case Mapping():
            return dict(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case _ if is_dataclass(value):
            return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        case _:
            return value


def _text(value: datetime | UUID | bytes) -> str:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case bytes():
            return f"({len(value)} bytes)"
