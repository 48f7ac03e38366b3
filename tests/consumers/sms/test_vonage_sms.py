"""Texts by Vonage: the contract, its requests, and its signed webhooks held to its own library."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from vonage_jwt import verify_signature

from comms.platform.settings import Secret, SettingsError
from consumers.sdk.error_codes import Classifier
from consumers.sdk.receipts import (
    BadSignatureError,
    Inbound,
    Receipt,
    ReceiptEvent,
    UnmatchedReceipt,
    UnreadableReceiptError,
)
from consumers.sms.vonage import CODES, VonageSmsReceipts
from consumers.vendors import vonage as vendor
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.http_suite import (
    PUBLIC_URL,
    Dialogue,
    NamingContract,
    Reply,
    Stub,
    describe,
)
from tests.consumers.contract.samples import message, only_provider, settings_with
from tests.consumers.contract.suite import Subject, call
from tests.consumers.vendors import vonage
from tests.consumers.vendors.vonage import NOW, problem

URL = f"{PUBLIC_URL}/receipts/sms/vonage"
TABLE = {"name": "vonage", "from": "Acme"}


def sms() -> SmsMessage:
    made = message(Channel.SMS, "+12025550142")
    assert isinstance(made, SmsMessage)
    return made


def wrong(name: str) -> Reply:
    """What is said of a parameter's value."""
    listed = [{"name": name, "reason": "invalid value"}]
    return problem(422, "/messages#1150", invalid_parameters=listed)


class TestVonageSms(NamingContract):
    dialogue = Dialogue(
        channel=Channel.SMS,
        table=TABLE,
        environment=vonage.ENVIRONMENT,
        accepted=lambda n: Reply(202, json.dumps({"message_uuid": f"aaaaaaaa-bbbb-{n:04}"})),
        refused=wrong("to"),
        transient=problem(500, "/messages#1030"),
        probe=problem(422, "/messages#1010"),
        errors={
            "an unknown prefix": (problem(422, "/messages#1040"), "refused invalid_recipient"),
            "no number": (problem(422, "/messages#1170"), "refused invalid_recipient"),
            "no longer active": (
                problem(422, "/messages#1190"),
                "refused invalid_recipient hard_bounce",
            ),
            "opted out": (problem(422, "/messages#1240"), "refused suppressed opt_out"),
            "barred": (problem(422, "/messages#1050"), "refused rejected"),
            "not on a trial's list": (problem(422, "/messages#1160"), "refused rejected"),
            "a wrong text": (wrong("text"), "refused invalid_content"),
            "something wrong": (wrong("sms.entity_id"), "refused rejected"),
            "our sender": (problem(422, "/messages#1120"), "blocked"),
            "our sender's form": (wrong("from"), "blocked"),
            "wrong credentials": (problem(401, "#unauthorized"), "blocked"),
            "no credit": (problem(402, "#low-balance"), "blocked"),
            "no more credit": (problem(422, "/messages#1070"), "blocked"),
            "suspended": (problem(403, "#account-suspended"), "blocked"),
            "too many at once": (problem(429, "/messages#1000"), "later rate_limited"),
            "internal": (problem(500, "#internal-error"), "later provider_error"),
            "a code of tomorrow": (problem(422, "/messages#1999"), "refused rejected"),
            "a problem in spite of its status": (
                problem(202, "/messages#1030"),
                "later provider_error",
            ),
        },
        needs="VONAGE_PRIVATE_KEY",
    )

    async def test_the_request_is_vonages(self, subject: Subject, stub: Stub) -> None:
        made = replace(sms(), expires_at=datetime.now(UTC) + timedelta(seconds=100))
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v1/messages")
        value = json.loads(asked.body)
        assert 90 <= value.pop("ttl") <= 100
        assert value == {
            "message_type": "text",
            "channel": "sms",
            "to": "12025550142",
            "from": "Acme",
            "text": "Hello",
            "client_ref": str(made.id),
            "webhook_url": URL,
            "webhook_version": "v1",
        }

    async def test_the_call_is_signed_by_the_applications_key(
        self, subject: Subject, stub: Stub
    ) -> None:
        await call(subject.provider, sms())
        scheme, _, token = stub.requests[-1].headers["Authorization"].partition(" ")
        claims = jwt.decode(token, vonage.KEY.public_key(), algorithms=["RS256"])
        assert (scheme, claims["application_id"]) == ("Bearer", vonage.APPLICATION)
        assert claims["exp"] - claims["iat"] == 900
        assert claims["jti"]

    @pytest.mark.parametrize(("seconds", "ttl"), [(3, 20), (1_000_000, 604_800)])
    async def test_the_time_to_live_is_one_that_vonage_takes(
        self, subject: Subject, stub: Stub, seconds: int, ttl: int
    ) -> None:
        await call(
            subject.provider,
            replace(sms(), expires_at=datetime.now(UTC) + timedelta(seconds=seconds)),
        )
        assert json.loads(stub.requests[-1].body)["ttl"] == ttl

    async def test_a_messages_own_sender_is_not_the_accounts_fault(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(wrong("from"))
        assert isinstance(made, SmsMessage)
        outcome = await call(subject.provider, replace(made, sender="+15005550007"))
        assert describe(outcome) == "refused invalid_content"
        assert json.loads(stub.requests[-1].body)["from"] == "15005550007"

    async def test_a_key_and_its_secret_take_the_applications_place(self, stub: Stub) -> None:
        environment = {"VONAGE_API_KEY": "k", "VONAGE_API_SECRET": "s"}
        provider = replace(self.dialogue, environment=environment).provider(stub.url)
        await provider.open()
        await call(provider, sms())
        await provider.close()
        assert stub.requests[-1].headers["Authorization"] == "Basic azpz"


def test_the_key_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "private.key"
    file.write_text(vonage.PEM)
    environment = {**vonage.ENVIRONMENT, "VONAGE_PRIVATE_KEY": str(file)}
    settings = settings_with(Channel.SMS, TABLE, environment=environment)
    assert only_provider(settings, Channel.SMS).name == "vonage"


def test_what_is_no_key_is_told_and_not_shown() -> None:
    environment = {**vonage.ENVIRONMENT, "VONAGE_PRIVATE_KEY": "half a secret"}
    settings = settings_with(Channel.SMS, TABLE, environment=environment)
    with pytest.raises(SettingsError) as caught:
        only_provider(settings, Channel.SMS)
    assert caught.value.key == "sms.providers[vonage].private_key_env"
    assert "half a secret" not in str(caught.value)


def test_a_token_is_used_for_ten_minutes() -> None:
    now = [NOW]
    application = vendor.Application("id", vonage.KEY, clock=lambda: now[0])
    first = application.headers()
    now[0] += timedelta(minutes=9)
    assert application.headers() == first
    now[0] += timedelta(minutes=2)
    assert application.headers() != first


def parser() -> VonageSmsReceipts:
    classifier = Classifier(CODES, channel=Channel.SMS, provider="vonage")
    secret = Secret(vonage.SIGNATURE_SECRET)
    return VonageSmsReceipts(secret, classifier=classifier, clock=lambda: NOW)


def said(value: dict[str, Any]) -> list[ReceiptEvent]:
    body = json.dumps(value).encode()
    return list(parser().parse(vonage.signed_headers(body), body, URL))


def status(word: str, **more: Any) -> dict[str, Any]:
    return {
        "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        "to": "12025550142",
        "from": "Acme",
        "timestamp": "2026-11-23T11:59:58Z",
        "status": word,
        "channel": "sms",
        **more,
    }


def failure(code: str) -> dict[str, str]:
    page = f"https://developer.vonage.com/api-errors/messages#{code}"
    return {"type": page, "title": code, "detail": "What is wrong", "instance": "1"}


@pytest.mark.parametrize("word", ["delivered", "read"])
def test_a_receipt_finds_its_message_by_our_reference(word: str) -> None:
    ours = new_message_id()
    (found,) = said(status(word, client_ref=str(ours)))
    assert isinstance(found, Receipt)
    assert (found.message_id, found.delivered) == (ours, True)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, 58, tzinfo=UTC)
    assert found.response.provider_message_id == "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"


def test_one_with_another_reference_is_left_to_the_ledger() -> None:
    (found,) = said(status("delivered", client_ref="order 7", timestamp="yesterday"))
    assert isinstance(found, UnmatchedReceipt)
    assert found.occurred_at == NOW


@pytest.mark.parametrize(
    ("code", "reason", "suppress"),
    [
        ("1190", Reason.INVALID_RECIPIENT, SuppressionReason.HARD_BOUNCE),
        ("1240", Reason.SUPPRESSED, SuppressionReason.OPT_OUT),
        ("1180", Reason.UNDELIVERED, None),
        ("1210", Reason.UNDELIVERED, None),
        ("1999", Reason.UNDELIVERED, None),
    ],
)
@pytest.mark.parametrize("word", ["rejected", "undeliverable"])
def test_a_failure_says_why(
    word: str, code: str, reason: Reason, suppress: SuppressionReason | None
) -> None:
    (found,) = said(status(word, error=failure(code), client_ref=str(new_message_id())))
    assert isinstance(found, Receipt)
    assert not found.delivered
    assert (found.reason, found.suppress, found.response.code) == (reason, suppress, code)


def test_what_is_on_its_way_is_no_receipt() -> None:
    assert said(status("submitted")) == []
    assert said({**status(""), "status": ["delivered"]}) == []  # nor what Vonage never writes


def test_what_people_write_is_no_receipt_either() -> None:
    value = {
        "channel": "sms",
        "message_uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        "to": "15005550006",
        "from": "12025550142",
        "timestamp": "2026-11-23T11:59:58Z",
        "text": "Stop",
        "sms": {"num_messages": "1", "keyword": "STOP"},
    }
    assert said(value) == [Inbound(from_="+12025550142", to="+15005550006", text="Stop")]


def test_vonages_own_library_agrees_about_signatures() -> None:
    body = json.dumps(status("delivered")).encode()
    for secret, expected in ((vonage.SIGNATURE_SECRET, True), ("x" * 40, False)):
        token = vonage.token(body, secret=secret)
        assert verify_signature(token, vonage.SIGNATURE_SECRET) is expected
        headers = {"authorization": f"Bearer {token}"}
        if expected:
            assert parser().parse(headers, body, URL)
        else:
            with pytest.raises(BadSignatureError):
                parser().parse(headers, body, URL)


def test_the_hash_may_be_of_the_payload_written_without_spaces() -> None:
    value = status("delivered", to="12025550142", note="é")
    spaced = json.dumps(value, indent=1, ensure_ascii=False).encode()
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    assert parser().parse(vonage.signed_headers(compact), spaced, URL)


@pytest.mark.parametrize(
    "headers",
    [
        lambda body: {},
        lambda body: {"authorization": "Bearer a.b"},
        lambda body: {"authorization": "Bearer !.é.%"},
        lambda body: {"authorization": f"Basic {vonage.token(body)}"},
        lambda body: {"authorization": f"Bearer {jwt.encode({'iat': 1}, '', algorithm='none')}"},
        lambda body: {"authorization": f"Bearer {flipped(vonage.token(body))}"},
        lambda body: vonage.signed_headers(body, iat=int(NOW.timestamp()) - 301),
        lambda body: vonage.signed_headers(body, iat=int(NOW.timestamp()) + 301),
        lambda body: vonage.signed_headers(body, iat=None),
        lambda body: vonage.signed_headers(body, iat=float("nan")),
        lambda body: vonage.signed_headers(body, iat=10**400),
        lambda body: vonage.signed_headers(body, payload_hash=None),
        lambda body: vonage.signed_headers(body, payload_hash="\ud800"),
        lambda body: vonage.signed_headers(body.replace(b"delivered", b"rejected")),
    ],
    ids=[
        *("none", "half", "garbled", "other scheme", "unsigned", "flipped"),
        *("old", "of tomorrow", "timeless", "no number", "without end"),
        *("without a hash", "a hash that is no text", "of another body"),
    ],
)
def test_what_vonage_did_not_sign_is_refused(headers: Any) -> None:
    body = json.dumps(status("delivered")).encode()
    with pytest.raises(BadSignatureError):
        parser().parse(headers(body), body, URL)


def flipped(token: str) -> str:
    """The same with one bit of its claims changed."""
    head, claims, signature = token.split(".")
    changed = chr(ord(claims[20]) ^ 1)
    return f"{head}.{claims[:20]}{changed}{claims[21:]}.{signature}"


def test_signed_words_that_are_no_object_are_unreadable() -> None:
    with pytest.raises(UnreadableReceiptError):
        parser().parse(vonage.signed_headers(b"[]"), b"[]", URL)
