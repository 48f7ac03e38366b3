"""The payload of a notification for each push service, and the limits of these services.

The rules check a message that names its platform, and the adapters check every message. Both use
this module, so the API and the channel refuse the same messages. The payloads that are built here
are sent to the services unchanged.
"""

import json
from collections.abc import Iterator
from typing import Any

from schemas.errors import Violation
from schemas.messages import PushMessage
from schemas.vocabulary import Platform

PAYLOAD_LIMIT = 4096  # bytes
# Bytes of a Web Push payload before its encryption: one record of 4096 bytes (RFC 8291) without its
# header, delimiter and tag.
WEBPUSH_LIMIT = 3993

# https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages#Message
_FCM_RESERVED = frozenset({"from", "message_type"})
_FCM_RESERVED_PREFIXES = ("google.", "gcm.notification.")
_APNS_RESERVED = "aps"


def payload_violations(message: PushMessage, platform: Platform) -> Iterator[Violation]:
    """Check the content of a message against the limits of `platform`."""
    match platform:
        case Platform.FCM:
            yield from _check_size("title, body and data", content_size(message), PAYLOAD_LIMIT)
            if any(_is_reserved_by_fcm(key) for key in message.data):
                yield Violation("data", "has a key that FCM reserves")
        case Platform.APNS:
            yield from _check_size("the JSON", len(apns_payload(message)), PAYLOAD_LIMIT)
            if _APNS_RESERVED in message.data:
                yield Violation("data", f"has the key {_APNS_RESERVED}, which APNs reserves")
        case Platform.WEBPUSH:
            yield from _check_size("the JSON", len(webpush_payload(message)), WEBPUSH_LIMIT)
        case Platform.EXPO:
            size = len(_json(expo_notification(message)))
            yield from _check_size("the JSON", size, PAYLOAD_LIMIT)


def content_size(message: PushMessage) -> int:
    """Return the bytes of title, body, and the keys and values of `data`.

    Services that write the payload themselves count so.
    """
    texts = (message.title, message.body, *(part for pair in message.data.items() for part in pair))
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def apns_payload(message: PushMessage) -> bytes:
    """Return the body of a request to Apple."""
    aps: dict[str, Any] = {
        "alert": {"title": message.title, "body": message.body},
        "sound": "default",
    }
    if message.badge is not None:
        aps["badge"] = message.badge
    return _json({**message.data, _APNS_RESERVED: aps})


def webpush_payload(message: PushMessage) -> bytes:
    """Return the JSON for a page's service worker. It is our own format; there is no standard."""
    return _json(_notification(message))


def expo_notification(message: PushMessage) -> dict[str, Any]:
    """Return the notification that Expo passes on to Google and Apple."""
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


def _is_reserved_by_fcm(key: str) -> bool:
    return key in _FCM_RESERVED or key.startswith(_FCM_RESERVED_PREFIXES)


def _check_size(what: str, size: int, limit: int) -> Iterator[Violation]:
    if size > limit:
        yield Violation("data", f"{what} must have at most {limit} bytes, and has {size}")
