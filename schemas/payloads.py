"""A notification as each push service counts it, and what the services do not take.

The rules ask for a message that names its platform, and the adapters for every message, so that
what is refused at the door and what is refused before the call are the same. What is written here
is what goes over the wire, where a service is given it as it is.
"""

import json
from collections.abc import Iterator
from typing import Any

from schemas.errors import Violation
from schemas.messages import PushMessage
from schemas.vocabulary import Platform

PAYLOAD_LIMIT = 4096  # bytes
# Of what a browser is told, before its encryption: one record of 4096 bytes (RFC 8291) without
# its header, delimiter and tag.
WEBPUSH_LIMIT = 3993

# https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages#Message
_FCM_RESERVED = frozenset({"from", "message_type"})
_FCM_RESERVED_BEGINNINGS = ("google.", "gcm.notification.")
_APPLES = "aps"


def problems(message: PushMessage, platform: Platform) -> Iterator[Violation]:
    """What `platform` would not take of a message's content."""
    match platform:
        case Platform.FCM:
            yield from _within("title, body and data", content_size(message), PAYLOAD_LIMIT)
            if any(_is_fcms(key) for key in message.data):
                yield Violation("data", "has a key that FCM keeps for itself")
        case Platform.APNS:
            yield from _within("as JSON it", len(apns_payload(message)), PAYLOAD_LIMIT)
            if _APPLES in message.data:
                yield Violation("data", f"has the key {_APPLES}, which is Apple's")
        case Platform.WEBPUSH:
            yield from _within("as JSON it", len(webpush_payload(message)), WEBPUSH_LIMIT)
        case Platform.EXPO:
            size = len(_json(expo_notification(message)))
            yield from _within("as JSON it", size, PAYLOAD_LIMIT)


def content_size(message: PushMessage) -> int:
    """Bytes of its keys and values, as services count them that write the payload themselves."""
    texts = (message.title, message.body, *(part for pair in message.data.items() for part in pair))
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def apns_payload(message: PushMessage) -> bytes:
    """The body of a request to Apple."""
    aps: dict[str, Any] = {
        "alert": {"title": message.title, "body": message.body},
        "sound": "default",
    }
    if message.badge is not None:
        aps["badge"] = message.badge
    return _json({**message.data, _APPLES: aps})


def webpush_payload(message: PushMessage) -> bytes:
    """What a page's service worker is given: JSON of our own, as there is no standard."""
    return _json(_notification(message))


def expo_notification(message: PushMessage) -> dict[str, Any]:
    """What Expo passes on to Google and Apple."""
    return {**_notification(message), "sound": "default"}


def _notification(message: PushMessage) -> dict[str, Any]:
    value: dict[str, Any] = {"title": message.title, "body": message.body}
    if message.data:
        value["data"] = dict(message.data)
    if message.badge is not None:
        value["badge"] = message.badge
    return value


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _is_fcms(key: str) -> bool:
    return key in _FCM_RESERVED or key.startswith(_FCM_RESERVED_BEGINNINGS)


def _within(what: str, size: int, limit: int) -> Iterator[Violation]:
    if size > limit:
        yield Violation("data", f"{what} must stay within {limit} bytes, and comes to {size}")
