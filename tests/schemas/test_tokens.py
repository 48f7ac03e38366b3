"""The platform of a device token, by its format."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas.messages import PushMessage, WebPushSubscription
from schemas.tokens import PLATFORMS_WITH_TOKENS, platform_of, platforms_of
from schemas.vocabulary import Platform

APNS = "a1B2" * 16
FCM = "dPx7_Kq-T0m:APA91b" + "Z" * 120
EXPO = "ExponentPushToken[xxxxxxxxxxxxxxxxxxxxxx]"
PUSH = PushMessage(
    id=UUID(int=1), tenant="acme", created_at=datetime(2030, 1, 1, tzinfo=UTC), title="T", body="B"
)


@pytest.mark.parametrize(
    ("token", "platform"),
    [
        (APNS, Platform.APNS),
        (FCM, Platform.FCM),
        (EXPO, Platform.EXPO),
        ("ExpoPushToken[abc]", Platform.EXPO),
        ("simulator:delivered", None),
        ("a1b2", None),
        ("", None),
    ],
)
def test_format_shows_the_platform_or_none(token: str, platform: Platform | None) -> None:
    assert platform_of(token) is platform


def test_named_platform_wins_over_the_format_of_the_tokens() -> None:
    browser = WebPushSubscription(endpoint="https://push.example.com/1", p256dh="a", auth="b")
    platforms = {
        "subscription": platforms_of(replace(PUSH, subscription=browser)),
        "named": platforms_of(replace(PUSH, tokens=(APNS,), platform=Platform.FCM)),
        "same format": platforms_of(replace(PUSH, tokens=(APNS, APNS))),
        "one without a format": platforms_of(replace(PUSH, tokens=(EXPO, "what-is-it"))),
        "two formats": platforms_of(replace(PUSH, tokens=(APNS, FCM))),
        "no format": platforms_of(replace(PUSH, tokens=("simulator:slow",))),
    }
    assert platforms == {
        "subscription": {Platform.WEBPUSH},
        "named": {Platform.FCM},
        "same format": {Platform.APNS},
        "one without a format": {Platform.EXPO},
        "two formats": PLATFORMS_WITH_TOKENS,
        "no format": PLATFORMS_WITH_TOKENS,
    }
