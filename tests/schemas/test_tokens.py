"""Whose token it is, by its look."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas.messages import PushMessage, WebPushSubscription
from schemas.tokens import WITH_TOKENS, platform_of, platforms_of
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
def test_a_look_names_a_platform_or_none(token: str, platform: Platform | None) -> None:
    assert platform_of(token) is platform


def test_a_message_goes_by_what_it_says_then_by_how_its_tokens_look() -> None:
    browser = WebPushSubscription(endpoint="https://push.example.com/1", p256dh="a", auth="b")
    found = {
        "subscription": platforms_of(replace(PUSH, subscription=browser)),
        "named": platforms_of(replace(PUSH, tokens=(APNS,), platform=Platform.FCM)),
        "alike": platforms_of(replace(PUSH, tokens=(APNS, APNS))),
        "with one that says nothing": platforms_of(replace(PUSH, tokens=(EXPO, "what-is-it"))),
        "mixed": platforms_of(replace(PUSH, tokens=(APNS, FCM))),
        "unknown": platforms_of(replace(PUSH, tokens=("simulator:slow",))),
    }
    assert found == {
        "subscription": {Platform.WEBPUSH},
        "named": {Platform.FCM},
        "alike": {Platform.APNS},
        "with one that says nothing": {Platform.EXPO},
        "mixed": WITH_TOKENS,
        "unknown": WITH_TOKENS,
    }
