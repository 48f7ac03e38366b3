"""The content rules: valid messages pass, and a violation names its field and quotes no value."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.ids import new_message_id
from schemas.messages import (
    Attachment,
    EmailMessage,
    Message,
    PushMessage,
    SmsMessage,
    VoiceMessage,
    WebPushSubscription,
)
from schemas.rules import ATTACHMENTS_LIMIT, Policy, key_violations, violations
from schemas.rules.numbers import COUNTRIES_WITHOUT_SENDER_NAMES
from schemas.vocabulary import Platform

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ENVELOPE: dict[str, Any] = {"id": new_message_id(), "tenant": "acme", "created_at": NOW}
SMS = SmsMessage(**ENVELOPE, to="+12025550100", body="hello")
EMAIL = EmailMessage(
    **ENVELOPE, to="Ann <delivered@simulator.example.com>", subject="Hi", text="hello"
)
PUSH = PushMessage(**ENVELOPE, title="Hi", body="hello", tokens=("simulator:delivered",))
VOICE = VoiceMessage(**ENVELOPE, to="+12025550107", text="hello")
SUBSCRIPTION = WebPushSubscription(
    endpoint="https://push.example.com/x", p256dh="BNc-_x", auth="aQ=="
)
PDF = Attachment(filename="bill.pdf", content_type="application/pdf", content=b"x")


def fields(message: Message) -> set[str]:
    """Return the fields of the rules that a message breaks."""
    return {violation.field for violation in violations(message)}


@pytest.mark.parametrize("last", range(100))
def test_every_number_of_the_simulator_is_valid(last: int) -> None:
    assert violations(replace(SMS, to=f"+120255501{last:02}")) == ()


@pytest.mark.parametrize(
    "message",
    [
        EMAIL,
        PUSH,
        VOICE,
        replace(SMS, to="+4915112345678", sender="ACME Inc"),
        replace(SMS, to="+447400123456", sender="ACME Inc"),
        replace(SMS, sender="88777"),
        replace(SMS, to="+4915112345678", sender="+12025550109", body="x" * 1600),
        replace(SMS, send_at=NOW, expires_at=NOW + timedelta(seconds=1)),
        replace(EMAIL, text=None, html="<p>hi</p>", cc=("b@example.org",), attachments=(PDF,)),
        replace(EMAIL, headers={"List-Unsubscribe": "<mailto:u@example.com>"}),
        replace(EMAIL, attachments=(replace(PDF, content_type='text/plain; charset="utf-8"'),)),
        replace(PUSH, tokens=(), subscription=SUBSCRIPTION, platform=Platform.WEBPUSH, ttl=0),
        replace(VOICE, text=None, audio_url="https://example.com/a.mp3", repeat=10),
        replace(VOICE, language="zh-Hant-TW"),
        replace(VOICE, to="+33884012345"),
        replace(SMS, to="+4930123456"),  # a landline, which may accept texts
        replace(SMS, to="+8613800138000", body="🐟" * 800),
    ],
)
def test_valid_message_is_accepted(message: Message) -> None:
    assert violations(message) == ()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(SMS, to="12025550100"), "to"),
        (replace(SMS, to="+1 202 555 0100"), "to"),
        (replace(SMS, to="+120255501"), "to"),
        (replace(SMS, to="+99912345678"), "to"),
        (replace(SMS, to="+8621123456"), "to"),  # shorter than any mobile number of China
        (replace(SMS, to="+19005551234"), "to"),  # premium rate
        (replace(SMS, to="+33884012345"), "to"),  # shared cost
        (replace(SMS, body="€" * 801), "body"),  # 1602 units
        (replace(SMS, body="🐟" * 801), "body"),
        (replace(SMS, to="+12025551234", sender="ACME"), "from"),
        (replace(SMS, to="+8613800138000", sender="ACME"), "from"),
        (replace(SMS, body=""), "body"),
        (replace(SMS, body=" \n"), "body"),
        (replace(SMS, body="x" * 1601), "body"),
        (replace(SMS, sender="A name too long"), "from"),
        (replace(SMS, tenant=""), "tenant"),
        (replace(SMS, tenant="x" * 65), "tenant"),
        (replace(SMS, customer_id="x" * 256), "customer_id"),
        (replace(SMS, customer_id="a\0b"), "customer_id"),
        (replace(SMS, workflow="x" * 129), "workflow"),
        (replace(SMS, created_at=NOW.replace(tzinfo=None)), "created_at"),
        (replace(SMS, send_at=NOW.replace(tzinfo=None)), "send_at"),
        (replace(SMS, expires_at=NOW.replace(tzinfo=None)), "expires_at"),
        (replace(SMS, expires_at=NOW), "expires_at"),
        (
            replace(SMS, send_at=NOW + timedelta(2), expires_at=NOW + timedelta(1)),
            "expires_at",
        ),
        (replace(SMS, metadata={str(n): "" for n in range(51)}), "metadata"),
        (replace(SMS, metadata={"k" * 65: ""}), "metadata"),
        (replace(SMS, metadata={"k": "v" * 513}), "metadata"),
        (replace(SMS, metadata={"k": "\0"}), "metadata"),
        (replace(EMAIL, to="nobody"), "to"),
        (replace(EMAIL, to="a@example.com, b@example.com"), "to"),
        (replace(EMAIL, to="a@example.com\r\nBcc: b@example.com"), "to"),
        (replace(EMAIL, cc=("a@example.com", "b")), "cc[1]"),
        (replace(EMAIL, bcc=("a@example.com",) * 51), "bcc"),
        (replace(EMAIL, reply_to="x"), "reply_to"),
        (replace(EMAIL, sender="x@"), "from"),
        (replace(EMAIL, subject=""), "subject"),
        (replace(EMAIL, subject="a\r\nBcc: b@example.com"), "subject"),
        (replace(EMAIL, text=None), "text"),
        (replace(EMAIL, text="x" * 3_000_000), "text"),
        (replace(EMAIL, headers={"X-A": "b\nBcc: c"}), "headers"),
        (replace(EMAIL, headers={"X A": "b"}), "headers"),
        (replace(EMAIL, headers={"bCC": "b@example.com"}), "headers"),
        (replace(EMAIL, attachments=(PDF,) * 26), "attachments"),
        (
            replace(EMAIL, attachments=(replace(PDF, content=bytes(ATTACHMENTS_LIMIT)), PDF)),
            "attachments",
        ),
        (
            replace(EMAIL, attachments=(PDF, replace(PDF, filename="../x"))),
            "attachments[1].filename",
        ),
        (
            replace(EMAIL, attachments=(replace(PDF, filename="a\r\nb"),)),
            "attachments[0].filename",
        ),
        (
            replace(EMAIL, attachments=(replace(PDF, content_type="pdf"),)),
            "attachments[0].content_type",
        ),
        (replace(PUSH, tokens=()), "tokens"),
        (replace(PUSH, tokens=("",)), "tokens[0]"),
        (replace(PUSH, tokens=("t",) * 501), "tokens"),
        (replace(PUSH, subscription=SUBSCRIPTION), "tokens"),
        (replace(PUSH, platform=Platform.WEBPUSH), "platform"),
        (replace(PUSH, title=""), "title"),
        (replace(PUSH, body="ü" * 2048), "data"),
        (replace(PUSH, collapse_key="ü" * 33), "collapse_key"),
        (replace(PUSH, ttl=2_419_201), "ttl"),
        (replace(PUSH, badge=-1), "badge"),
        (
            replace(
                PUSH, tokens=(), subscription=replace(SUBSCRIPTION, endpoint="http://a.example")
            ),
            "subscription.endpoint",
        ),
        (
            replace(PUSH, tokens=(), subscription=replace(SUBSCRIPTION, auth="!")),
            "subscription.auth",
        ),
        (replace(VOICE, to="0"), "to"),
        (replace(VOICE, to="+449001234567"), "to"),
        (replace(VOICE, text=None), "text"),
        (replace(VOICE, audio_url="https://example.com/a.mp3"), "text"),
        (replace(VOICE, text="x" * 3001), "text"),
        (replace(VOICE, text=None, audio_url="ftp://example.com"), "audio_url"),
        (replace(VOICE, language="en_US"), "language"),
        (replace(VOICE, repeat=0), "repeat"),
        (replace(VOICE, sender="ACME"), "from"),
    ],
)
def test_violation_names_the_field(message: Message, field: str) -> None:
    assert fields(message) == {field}


@pytest.mark.parametrize("country", sorted(COUNTRIES_WITHOUT_SENDER_NAMES))
def test_sender_name_is_refused_in_countries_without_sender_names(country: str) -> None:
    number = phonenumbers.example_number_for_type(country, phonenumbers.PhoneNumberType.MOBILE)
    assert number is not None
    to = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    to = to.replace("55501", "23401")  # so that no example is a fictional number
    (violation,) = violations(replace(SMS, to=to, sender="ACME"))
    assert violation.field == "from"
    assert country in violation.problem
    assert violations(replace(SMS, to=to, sender="+12025550109")) == ()


@pytest.mark.parametrize("to", ["+12025550100", "+15005550006"])
def test_fictional_number_accepts_any_sender_name(to: str) -> None:
    assert violations(replace(SMS, to=to, sender="ACME")) == ()


@pytest.mark.parametrize(
    ("to", "allowed"),
    [
        ("+12025550100", True),
        ("+14165550100", False),  # Canada has the same prefix
        ("+12065550100", True),
        ("+17875550100", False),  # Puerto Rico has its own code
        ("+4915112345678", True),
        ("+447400123456", False),
        ("+19995550100", False),  # no country with +1 has this number
        ("+8835100012345", False),  # no country has this number
    ],
)
def test_policy_limits_the_countries(to: str, allowed: bool) -> None:
    policy = Policy(countries=frozenset({"US", "DE"}))
    for message in (replace(SMS, to=to), replace(VOICE, to=to)):
        assert violations(message) == ()
        broken = violations(message, policy)
        assert [violation.field for violation in broken] == ([] if allowed else ["to"])
        assert "does not send" in str(broken) or allowed


def test_policy_limits_the_segments_of_a_text() -> None:
    policy = Policy(parts=3)
    assert violations(replace(SMS, body="a" * 459), policy) == ()
    (violation,) = violations(replace(SMS, body="я" * 202), policy)
    assert violation.field == "body"
    assert "4 segments" in violation.problem
    assert "UCS-2" in violation.problem


def test_every_broken_rule_is_reported_at_once() -> None:
    assert fields(replace(SMS, to="x", body="", tenant="")) == {"tenant", "to", "body"}


@given(st.text(max_size=60))
@example("0@")
def test_rules_accept_any_input_and_quote_no_value(text: str) -> None:
    secret = f"{text}\u2603secret"
    mail = replace(EMAIL, to=secret, sender=secret, cc=(secret,), headers={secret: secret})
    push = replace(
        PUSH,
        tokens=(),
        subscription=WebPushSubscription(endpoint=secret, p256dh=secret, auth=secret),
    )
    image = replace(PDF, content_id=secret, filename=secret, content_type=secret)
    inline = replace(
        EMAIL, html=f'<img src="cid:{secret}">', attachments=(image,), unsubscribe_url=secret
    )
    device = replace(PUSH, platform=Platform.APNS, tokens=(secret,), data={"aps": secret})
    sms = replace(SMS, to=secret, sender=secret, body=secret * 100)
    for message in (sms, replace(VOICE, to=secret), mail, push, inline, device):
        broken = violations(message)
        assert broken
        assert all("secret" not in str(violation) for violation in broken)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
def test_invalid_idempotency_key_is_reported(key: str) -> None:
    assert {violation.field for violation in key_violations(key)} == {"idempotency_key"}


def test_missing_or_valid_idempotency_key_is_accepted() -> None:
    assert key_violations(None) == key_violations("order-17/shipped") == ()
