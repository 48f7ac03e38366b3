"""The platform of a device token, recognised by the format of the token.

The router uses it to choose a provider for a notification that names no platform. Some tokens have
no recognisable format (a simulated one, for example); they may belong to any platform.

Formats: Apple's tokens are hexadecimal and have 32 bytes so far (Apple's documentation says not to
rely on that length). Firebase's have an instance id before a colon. Expo's contain their name.
"""

import re
from collections.abc import Iterable

from schemas.messages import PushMessage
from schemas.vocabulary import Platform

PLATFORMS_WITH_TOKENS = frozenset({Platform.FCM, Platform.APNS, Platform.EXPO})
_FORMATS = {
    Platform.EXPO: re.compile(r"Expo(nent)?PushToken\[.+\]"),
    Platform.APNS: re.compile(r"(?:[0-9A-Fa-f]{2}){32,100}"),
    Platform.FCM: re.compile(r"[A-Za-z0-9_-]+:[A-Za-z0-9_-]{20,}"),
}


def platform_of(token: str) -> Platform | None:
    """Return the platform whose token format matches; None if no format matches."""
    return next((name for name, form in _FORMATS.items() if form.fullmatch(token)), None)


def is_for_another_platform(token: str, platform: Platform) -> bool:
    """Whether a token is certainly not one of `platform`.

    Only Expo's format is certain. The other services do not guarantee a format, so they decide
    about their tokens themselves.
    """
    recognised = platform_of(token)
    return recognised is not None and (recognised is Platform.EXPO) != (platform is Platform.EXPO)


def platforms_of(message: PushMessage) -> frozenset[Platform]:
    """Return the platforms that a message may be sent through.

    A subscription is Web Push. Otherwise it is the platform that the message names, else the one
    platform that the formats of its tokens show, else every platform that has device tokens.
    """
    if message.subscription is not None:
        return frozenset({Platform.WEBPUSH})
    if message.platform is not None:
        return frozenset({message.platform})
    return _platforms_by_format(message.tokens)


def _platforms_by_format(tokens: Iterable[str]) -> frozenset[Platform]:
    recognised = {platform_of(token) for token in tokens} - {None}
    only = next(iter(recognised)) if len(recognised) == 1 else None
    return frozenset({only}) if only is not None else PLATFORMS_WITH_TOKENS
