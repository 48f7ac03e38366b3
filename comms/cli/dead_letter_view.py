"""The record of a dead letter for display: its fields if it can be decoded, otherwise its bytes.

`comms dead-letters show` prints it. Without `--content`, every value that may contain a recipient
or a content is replaced by a note that it is hidden.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from comms.platform.kafka import Record
from schemas.codec import Codec
from schemas.codec import Record as AvroRecord
from schemas.errors import ContractError
from schemas.events import StatusEvent
from schemas.messages import EmailMessage, PushMessage, SmsMessage, VoiceMessage
from schemas.vocabulary import Channel

HIDDEN = "(hidden; --content shows it)"

# Fields that contain neither a recipient nor a content.
_PUBLIC_FIELDS = frozenset(
    {
        *("id", "tenant", "created_at", "workflow", "priority", "send_at", "expires_at"),
        *("on_doubt", "traceparent", "bypass_suppression", "mode", "message_id", "channel"),
        *("status", "reason", "attempt", "provider", "occurred_at", "code", "platform", "ttl"),
        "repeat",
    }
)


def describe_record(record: Record, channel: str, codec: Codec, *, content: bool) -> dict[str, Any]:
    """Describe a record for display.

    Args:
        channel: the channel in the dead letter's header; `status` for a status event.
        content: whether to show recipients and contents.

    Returns:
        `key`, and `record` if it can be decoded, otherwise `problem` and `value`.
    """
    key = (record.key or b"").decode(errors="replace")
    document: dict[str, Any] = {"key": key if content else _mask_key(key, channel)}
    try:
        decoded = _decode(record.value, channel, codec)
    except ContractError as error:
        value = record.value.hex(" ") if content else HIDDEN
        return document | {"problem": str(error), "value": value}
    return document | {"record": _to_fields(decoded, content=content)}


def _decode(value: bytes, channel: str, codec: Codec) -> AvroRecord:
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


def _mask_key(key: str, channel: str) -> str:
    """Hide the recipient: the key of a message is tenant and recipient, of an event its id."""
    if channel not in set(Channel):
        return key
    tenant, colon, _ = key.partition(":")
    return f"{tenant}:…" if colon else HIDDEN


def _to_fields(decoded: AvroRecord, *, content: bool) -> dict[str, Any]:
    document = {}
    for field in fields(decoded):
        value = getattr(decoded, field.name)
        if value in (None, (), {}):
            continue
        is_visible = content or field.name in _PUBLIC_FIELDS
        document[field.name] = _to_json(value) if is_visible else HIDDEN
    return document


def _to_json(value: Any) -> Any:
    match value:
        case datetime() | UUID() | bytes():
            return _to_text(value)
        case Mapping():
            return dict(value)
        case list() | tuple():
            return [_to_json(item) for item in value]
        case _ if is_dataclass(value):
            return {f.name: _to_json(getattr(value, f.name)) for f in fields(value)}
        case _:
            return value


def _to_text(value: datetime | UUID | bytes) -> str:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case bytes():
            return f"({len(value)} bytes)"
