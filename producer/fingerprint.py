"""What a request asks, as a hash: how the same idempotency key is told from the same request.

The outbox stores it beside a message and compares it when the key comes again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

from schemas.messages import RECORD_OF, Attachment, Message, WebPushSubscription
from schemas.vocabulary import Mode

# Different in every repetition of one request, or the scope that the key lives in.
_NOT_ASKED = frozenset({"id", "tenant", "created_at", "traceparent"})
_NAMES = {
    channel: tuple(field.name for field in fields(kind) if field.name not in _NOT_ASKED)
    for channel, kind in RECORD_OF.items()
}
_ABSENT: tuple[object, ...] = (None, (), {}, Mode.LIVE)


def body_hash(message: Message) -> bytes:
    """SHA-256 of the canonical JSON of what the sender asked for.

    What was left out does not count, nor a wish that is not made (`False`, `Mode.LIVE`), so that a
    field added to the contract later changes no hash.
    """
    asked = {
        name: value
        for name in _NAMES[message.channel]
        if (value := getattr(message, name)) not in _ABSENT and value is not False
    }
    asked["channel"] = message.channel
    return hashlib.sha256(_CANONICAL.encode(asked).encode()).digest()


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Attachment():
            digest = hashlib.sha256(value.content).hexdigest()
            shown_as = [] if value.content_id is None else [value.content_id]
            return [value.filename, value.content_type, digest, *shown_as]
        case WebPushSubscription():
            return [value.endpoint, value.p256dh, value.auth]
        case Mapping():
            return dict(value)
    raise TypeError(f"no canonical form of {type(value).__name__}")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain)
