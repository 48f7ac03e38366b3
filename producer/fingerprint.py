"""The hash of a request's content, which detects an idempotency key that is used twice.

`producer.outbox` stores the hash with the message. If the same key arrives again, the hashes show
whether it is the same request or another one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

from schemas.messages import RECORD_OF, Attachment, Message, WebPushSubscription
from schemas.vocabulary import Mode

# Fields that differ in each repetition of a request, and the tenant, which is the key's scope.
_EXCLUDED = frozenset({"id", "tenant", "created_at", "traceparent"})
_FIELDS = {
    channel: tuple(field.name for field in fields(kind) if field.name not in _EXCLUDED)
    for channel, kind in RECORD_OF.items()
}
_DEFAULTS: tuple[object, ...] = (None, (), {}, Mode.LIVE)


def body_hash(message: Message) -> bytes:
    """Return the SHA-256 of the canonical JSON of the fields that the sender set.

    Fields with a default value are left out (None, empty, `False`, `Mode.LIVE`). A field that is
    added to the contract later therefore changes no hash.
    """
    content = {
        name: value
        for name in _FIELDS[message.channel]
        if (value := getattr(message, name)) not in _DEFAULTS and value is not False
    }
    content["channel"] = message.channel
    return hashlib.sha256(_CANONICAL.encode(content).encode()).digest()


def _to_json(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Attachment():
            digest = hashlib.sha256(value.content).hexdigest()
            content_id = [] if value.content_id is None else [value.content_id]
            return [value.filename, value.content_type, digest, *content_id]
        case WebPushSubscription():
            return [value.endpoint, value.p256dh, value.auth]
        case Mapping():
            return dict(value)
    raise TypeError(f"no canonical form of {type(value).__name__}")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_to_json)
