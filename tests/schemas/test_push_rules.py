"""The content rules of push notifications, by platform."""

from dataclasses import replace

import pytest

from schemas.messages import PushMessage
from schemas.payloads import apns_payload, webpush_payload
from schemas.rules import violations
from schemas.vocabulary import Platform
from tests.schemas.test_rules import PUSH, SUBSCRIPTION

FCM = replace(PUSH, platform=Platform.FCM, tokens=("fcm-token",))
APNS = replace(PUSH, platform=Platform.APNS, tokens=("ab" * 32,))
EXPO = replace(PUSH, platform=Platform.EXPO, tokens=("ExponentPushToken[xxxxxxxxxxxxxxxxxxxxxx]",))
WEBPUSH = replace(PUSH, platform=Platform.WEBPUSH, tokens=(), subscription=SUBSCRIPTION)


def fill(message: PushMessage, size: int, limit: int) -> PushMessage:
    """Lengthen the body of a message that has `size` bytes, so that it has `limit` bytes."""
    return replace(message, body=message.body + "x" * (limit - size))


@pytest.mark.parametrize(
    ("full", "character"),
    [
        (fill(FCM, len("Hihello"), 4096), "x"),
        (fill(PUSH, len("Hihello"), 4096), "x"),
        (fill(APNS, len(apns_payload(APNS)), 4096), "x"),
        (fill(WEBPUSH, len(webpush_payload(WEBPUSH)), 3993), "x"),
        (fill(replace(WEBPUSH, platform=None), len(webpush_payload(WEBPUSH)), 3993), "x"),
        (fill(EXPO, len('{"title":"Hi","body":"hello","sound":"default"}'), 4096), "x"),
        (fill(APNS, len(apns_payload(APNS)) + 1, 4096), '"'),  # two bytes in JSON
    ],
    ids=["fcm", "any", "apns", "webpush", "subscription", "expo", "escaped"],
)
def test_payload_is_counted_as_its_service_counts(full: PushMessage, character: str) -> None:
    assert violations(full) == ()
    (violation,) = violations(replace(full, body=full.body + character))
    assert violation.field == "data"


@pytest.mark.parametrize("platform", [Platform.FCM, Platform.APNS, Platform.EXPO, None])
def test_simulated_tokens_are_valid_on_every_platform(platform: Platform | None) -> None:
    assert violations(replace(PUSH, platform=platform)) == ()


@pytest.mark.parametrize(
    "message",
    [
        replace(APNS, tokens=("AB" * 32, "0f" * 80, "simulator:delivered")),
        replace(EXPO, tokens=("ExpoPushToken[a_b-c]", "F5741A13-BCDA-434B-A316-5DC0E6FFA94F")),
        replace(FCM, data={"aps": "x", "gcm.x": "x", "fromage": "x"}),
        replace(APNS, data={"from": "x", "google.x": "x"}),
        replace(PUSH, data={"from": "x", "aps": "x"}),
        replace(WEBPUSH, collapse_key="x" * 64),
    ],
)
def test_valid_notification_is_accepted(message: PushMessage) -> None:
    assert violations(message) == ()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(APNS, tokens=("ab" * 32, "ExponentPushToken[x]")), "tokens[1]"),
        (
            replace(WEBPUSH, subscription=replace(SUBSCRIPTION, endpoint="https://a@p.example/1")),
            "subscription.endpoint",
        ),
        (replace(EXPO, tokens=("ab" * 32,)), "tokens[0]"),
        (replace(FCM, data={"from": "x"}), "data"),
        (replace(FCM, data={"message_type": "x"}), "data"),
        (replace(FCM, data={"google.sent_time": "x"}), "data"),
        (replace(FCM, data={"gcm.notification.title": "x"}), "data"),
        (replace(APNS, data={"aps": "x"}), "data"),
    ],
)
def test_violation_names_the_field(message: PushMessage, field: str) -> None:
    assert [violation.field for violation in violations(message)] == [field]
