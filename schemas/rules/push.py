"""The rules for notifications: which devices, and what their push service takes."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from schemas.errors import Violation
from schemas.messages import PushMessage, WebPushSubscription
from schemas.payloads import PAYLOAD_LIMIT, content_size, problems
from schemas.rules.words import CONTROL, between, https, size_of, word
from schemas.tokens import is_of_another
from schemas.vocabulary import Platform

TOKENS_COUNT = 500
TOKEN_LIMIT = 1024  # characters
COLLAPSE_KEY_LIMIT = 64  # bytes; Apple's, whom a message through FCM or Expo may reach too
TTL_LIMIT = 2_419_200  # seconds; four weeks, which is the most at FCM, Expo and browsers' services

_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,256}=*")


def push(message: PushMessage) -> Iterator[Violation]:
    """What is wrong with a notification."""
    if bool(message.tokens) == (message.subscription is not None):
        yield Violation("tokens", "give device tokens or one subscription")
    yield from _tokens(message.tokens, message.platform)
    if message.subscription is not None:
        yield from _subscription(message.subscription)
    yield from _platform(message)
    for field, text in (("title", message.title), ("body", message.body)):
        if not text.strip():
            yield Violation(field, "must not be empty")
    yield from _content(message)
    if message.badge is not None:
        yield from between("badge", message.badge, 0, 2**31 - 1)
    if message.ttl is not None:
        yield from between("ttl", message.ttl, 0, TTL_LIMIT)
    yield from _collapse_key(message.collapse_key)


def _tokens(tokens: tuple[str, ...], platform: Platform | None) -> Iterator[Violation]:
    if len(tokens) > TOKENS_COUNT:
        yield Violation("tokens", f"must be at most {TOKENS_COUNT}")
    for n, token in enumerate(tokens):
        wrong = list(word(f"tokens[{n}]", token, TOKEN_LIMIT))
        yield from wrong
        if platform is not None and not wrong and is_of_another(token, platform):
            yield Violation(f"tokens[{n}]", f"is no token of {platform}, by its look")


def _subscription(subscription: WebPushSubscription) -> Iterator[Violation]:
    wrong = list(https("subscription.endpoint", subscription.endpoint))
    yield from wrong
    if not wrong and urlsplit(subscription.endpoint).username is not None:
        yield Violation("subscription.endpoint", "must not have a name before its host")
    for field in ("p256dh", "auth"):
        if not _BASE64URL.fullmatch(getattr(subscription, field)):
            yield Violation(f"subscription.{field}", "must be base64url text")


def _platform(message: PushMessage) -> Iterator[Violation]:
    if message.platform is None:
        return
    if (message.subscription is not None) != (message.platform is Platform.WEBPUSH):
        yield Violation("platform", "webpush goes with a subscription, the others with tokens")


def _content(message: PushMessage) -> Iterator[Violation]:
    """By the platform's own count; where it is not known, by what none of them takes."""
    platform = Platform.WEBPUSH if message.subscription is not None else message.platform
    if platform is not None:
        yield from problems(message, platform)
    elif content_size(message) > PAYLOAD_LIMIT:
        yield Violation("data", f"with title and body must stay within {PAYLOAD_LIMIT} bytes")


def _collapse_key(key: str | None) -> Iterator[Violation]:
    if key is None:
        return
    if not 0 < size_of(key) <= COLLAPSE_KEY_LIMIT:
        yield Violation("collapse_key", f"must have 1 to {COLLAPSE_KEY_LIMIT} bytes")
    if CONTROL.search(key):
        yield Violation("collapse_key", "must not contain control characters")
