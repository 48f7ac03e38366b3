"""The rules for push notifications: devices, size, and the fields of push services.

`schemas.rules.violations` calls `check_push`.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from schemas.errors import Violation
from schemas.messages import PushMessage, WebPushSubscription
from schemas.payloads import PAYLOAD_LIMIT, content_size, payload_violations
from schemas.rules.checks import (
    CONTROL,
    check_https_url,
    check_name,
    check_range,
    utf8_size,
)
from schemas.tokens import is_for_another_platform
from schemas.vocabulary import Platform

TOKENS_COUNT = 500
TOKEN_LIMIT = 1024  # characters
COLLAPSE_KEY_LIMIT = 64  # bytes; Apple's limit, and FCM and Expo may pass a message to Apple
TTL_LIMIT = 2_419_200  # seconds: four weeks, the limit of FCM, Expo and Web Push services

_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,256}=*")


def check_push(message: PushMessage) -> Iterator[Violation]:
    """Check a push notification."""
    if bool(message.tokens) == (message.subscription is not None):
        yield Violation("tokens", "give device tokens or one subscription")
    yield from _check_tokens(message.tokens, message.platform)
    if message.subscription is not None:
        yield from _check_subscription(message.subscription)
    yield from _check_platform(message)
    for field, text in (("title", message.title), ("body", message.body)):
        if not text.strip():
            yield Violation(field, "must not be empty")
    yield from _check_size(message)
    if message.badge is not None:
        yield from check_range("badge", message.badge, 0, 2**31 - 1)
    if message.ttl is not None:
        yield from check_range("ttl", message.ttl, 0, TTL_LIMIT)
    yield from _check_collapse_key(message.collapse_key)


def _check_tokens(tokens: tuple[str, ...], platform: Platform | None) -> Iterator[Violation]:
    if len(tokens) > TOKENS_COUNT:
        yield Violation("tokens", f"must be at most {TOKENS_COUNT} tokens")
    for n, token in enumerate(tokens):
        field = f"tokens[{n}]"
        broken = list(check_name(field, token, TOKEN_LIMIT))
        yield from broken
        if platform is not None and not broken and is_for_another_platform(token, platform):
            yield Violation(field, f"does not have the format of a token of {platform}")


def _check_subscription(subscription: WebPushSubscription) -> Iterator[Violation]:
    broken = list(check_https_url("subscription.endpoint", subscription.endpoint))
    yield from broken
    if not broken and urlsplit(subscription.endpoint).username is not None:
        yield Violation("subscription.endpoint", "must not have a user name before its host")
    for field in ("p256dh", "auth"):
        if not _BASE64URL.fullmatch(getattr(subscription, field)):
            yield Violation(f"subscription.{field}", "must be base64url text")


def _check_platform(message: PushMessage) -> Iterator[Violation]:
    if message.platform is None:
        return
    if (message.subscription is not None) != (message.platform is Platform.WEBPUSH):
        yield Violation("platform", "webpush goes with a subscription, the others with tokens")


def _check_size(message: PushMessage) -> Iterator[Violation]:
    """Check the size as the platform counts it; without a platform, use the limit of all."""
    platform = Platform.WEBPUSH if message.subscription is not None else message.platform
    if platform is not None:
        yield from payload_violations(message, platform)
    elif content_size(message) > PAYLOAD_LIMIT:
        yield Violation("data", f"with title and body must have at most {PAYLOAD_LIMIT} bytes")


def _check_collapse_key(key: str | None) -> Iterator[Violation]:
    if key is None:
        return
    if not 0 < utf8_size(key) <= COLLAPSE_KEY_LIMIT:
        yield Violation("collapse_key", f"must have 1 to {COLLAPSE_KEY_LIMIT} bytes")
    if CONTROL.search(key):
        yield Violation("collapse_key", "must not contain control characters")
