"""What a request asks, as a hash: how the same idempotency key is told from the same request.

The outbox stores it beside a message and compares it when the key comes again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

from schemas.messages import Attachment, Message, WebPushSubscription

# Different in every repetition of one request, or the scope that the key lives in.
_NOT_ASKED = frozenset({"id", "tenant", "created_at", "traceparent"})


def body_hash(message: Message) -> bytes:
    """SHA-256 of the canonical JSON of what the sender asked for.

    What was left out does not count, so that a field added to the contract later changes no hash.
    """
    asked = {
        field.name: value
        for field in fields(message)
        if field.name not in _NOT_ASKED and (value := getattr(message, field.name)) not in _ABSENT
    }
    asked["channel"] = message.channel
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).digest()


_ABSENT: tuple[object, ...] = (None, (), {})


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Attachment():
            digest = hashlib.sha256(value.content).hexdigest()
            return [value.filename, value.content_type, digest]
        case WebPushSubscription():
            return [value.endpoint, value.p256dh, value.auth]
        case Mapping():
            return dict(value)
    raise TypeError(f"no canonical form of {type(value).__name__}")
