"""Whose device tokens a notification has, told by how they look.

The router asks, to send a message that names no platform by a provider of the right one. A token
whose look says nothing (a simulated one, say) may be anybody's.

Looks: Apple's are hexadecimal and of 32 bytes so far (its documentation forbids to count on that
length); Firebase's have an instance id before a colon; Expo's name themselves.
"""

import re
from collections.abc import Iterable

from schemas.messages import PushMessage
from schemas.vocabulary import Platform

WITH_TOKENS = frozenset({Platform.FCM, Platform.APNS, Platform.EXPO})
_LOOKS = {
    Platform.EXPO: re.compile(r"Expo(nent)?PushToken\[.+\]"),
    Platform.APNS: re.compile(r"(?:[0-9A-Fa-f]{2}){32,100}"),
    Platform.FCM: re.compile(r"[A-Za-z0-9_-]+:[A-Za-z0-9_-]{20,}"),
}


def platform_of(token: str) -> Platform | None:
    """The platform whose tokens look so; None where a look says nothing."""
    return next((name for name, look in _LOOKS.items() if look.fullmatch(token)), None)


def platforms_of(message: PushMessage) -> frozenset[Platform]:
    """The platforms that a message may go out through: the one it names, that of a browser's
    subscription, or the one that all of its tokens look like; all that have tokens where they do
    not look like one."""
    if message.subscription is not None:
        return frozenset({Platform.WEBPUSH})
    if message.platform is not None:
        return frozenset({message.platform})
    return _alike(message.tokens)


def _alike(tokens: Iterable[str]) -> frozenset[Platform]:
    found = {platform_of(token) for token in tokens}
    known = found - {None}
    only = next(iter(known)) if len(known) == 1 else None
    return frozenset({only}) if only is not None else WITH_TOKENS
