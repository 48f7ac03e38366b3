"""Calls by Vonage: the contract, its requests, and its signed events held to its own library."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from vonage_jwt import verify_signature

from comms.platform.settings import Secret, SettingsError
from consumers.sdk.error_codes import Classifier
from consumers.sdk.receipts import BadSignatureError, Receipt, ReceiptEvent, UnmatchedReceipt
from consumers.voice.vonage import CODES, LONGEST_TALK, VonageVoiceReceipts, ncco
from schemas.ids import new_message_id
from schemas.messages import VoiceMessage
from schemas.vocabulary import Channel, Reason
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

URL = f"{PUBLIC_URL}/receipts/voice/vonage"
TABLE = {"name": "vonage", "from": "+15005550006"}
CALL = "63f61863-4a51-4f6b-86e1-46edebcf9356"


def taken(number: int) -> Reply:
    value = {
        "uuid": f"63f61863-{number:04}",
        "conversation_uuid": "CON-1",
        "status": "started",
        "direction": "outbound",
    }
    return Reply(201, json.dumps(value))


def wrong(name: str) -> Reply:
    listed = [{"name": name, "reason": "invalid value"}]
    return problem(400, "#bad-request", invalid_parameters=listed)


def spoken(**more: Any) -> VoiceMessage:
    made = message(Channel.VOICE, "+12025550142")
    assert isinstance(made, VoiceMessage)
    return replace(made, **more)


class TestVonageVoice(NamingContract):
    dialogue = Dialogue(
        channel=Channel.VOICE,
        table=TABLE,
        environment=vonage.ENVIRONMENT,
        accepted=taken,
        refused=wrong("to"),
        transient=problem(500, "#internal-error"),
        errors={
            "a wrong number": (wrong("to[0].number"), "refused invalid_recipient"),
            "a wrong text": (wrong("ncco[0].text"), "refused invalid_content"),
            "something wrong": (wrong("length_timer"), "refused rejected"),
            "our sender": (wrong("from.number"), "blocked"),
            "wrong credentials": (problem(401, "#unauthorized"), "blocked"),
            "as it was written once": (
                Reply(401, '{"type":"UNAUTHORIZED","error_title":"Unauthorized"}'),
                "blocked",
            ),
            "no credit": (problem(402, "#low-balance"), "blocked"),
            "no voice capability": (problem(403, "#forbidden"), "blocked"),
            "too many at once": (problem(429, "#throttled"), "later rate_limited"),
            "a code of tomorrow": (problem(400, "#novel"), "refused rejected"),
        },
        needs="VONAGE_APPLICATION_ID",
    )

    async def test_the_request_is_vonages(self, subject: Subject, stub: Stub) -> None:
        made = spoken()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v1/calls")
        assert asked.headers["Authorization"].startswith("Bearer ")
        assert json.loads(asked.body) == {
            "to": [{"type": "phone", "number": "12025550142"}],
            "from": {"type": "phone", "number": "15005550006"},
            "ncco": [{"action": "talk", "text": "Hello"}],
            "ringing_timer": 60,
            "event_url": [f"{URL}?m={made.id}"],
            "event_method": "POST",
        }

    async def test_a_messages_own_sender_is_not_the_accounts_fault(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(wrong("from"))
        assert isinstance(made, VoiceMessage)
        outcome = await call(subject.provider, replace(made, sender="+15005550007"))
        assert describe(outcome) == "refused invalid_content"


def test_what_is_said_is_said_again_in_its_language() -> None:
    said = {"action": "talk", "text": "Hallo", "language": "de-DE", "style": 2}
    assert ncco(spoken(text="Hallo", language="de-DE", voice="2", repeat=3)) == [said] * 3


def test_another_providers_voice_is_left_out() -> None:
    assert ncco(spoken(voice="Polly.Amy")) == [{"action": "talk", "text": "Hello"}]


def test_a_sound_is_played() -> None:
    url = "https://example.com/a.mp3"
    played = {"action": "stream", "streamUrl": [url]}
    assert ncco(spoken(text=None, audio_url=url, repeat=2)) == [played, played]


@pytest.mark.parametrize("text", ["one two " * 374, "x" * 3000])
def test_a_long_text_is_said_in_parts_and_nothing_is_lost(text: str) -> None:
    parts = [str(one["text"]) for one in ncco(spoken(text=text))]
    assert len(parts) >= 2
    assert all(len(part) <= LONGEST_TALK for part in parts)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    if " " in text:
        assert " ".join(parts) == text.strip()


def test_it_rings_no_longer_than_vonage_lets_it() -> None:
    table = {**TABLE, "ring_seconds": 121}
    settings = settings_with(Channel.VOICE, table, environment=vonage.ENVIRONMENT)
    with pytest.raises(SettingsError) as caught:
        only_provider(settings, Channel.VOICE)
    assert caught.value.key == "voice.providers[vonage].ring_seconds"


def parser() -> VonageVoiceReceipts:
    classifier = Classifier(CODES, channel=Channel.VOICE, provider="vonage")
    secret = Secret(vonage.SIGNATURE_SECRET)
    return VonageVoiceReceipts(secret, classifier=classifier, clock=lambda: NOW)


def event(status: str, **more: Any) -> bytes:
    value = {
        "uuid": CALL,
        "conversation_uuid": "CON-1",
        "to": "12025550142",
        "from": "15005550006",
        "status": status,
        "direction": "outbound",
        "timestamp": "2026-11-23T11:59:58.123Z",
        **more,
    }
    return json.dumps(value, separators=(",", ":")).encode()


def said(body: bytes, url: str = URL) -> list[ReceiptEvent]:
    headers = vonage.signed_headers(body)
    assert verify_signature(headers["authorization"].split()[1], vonage.SIGNATURE_SECRET)
    return list(parser().parse(headers, body, url))


def test_a_receipt_finds_its_message_by_the_address_it_came_to() -> None:
    ours = new_message_id()
    (found,) = said(event("completed", duration="9", detail="whatever"), f"{URL}?m={ours}")
    assert isinstance(found, Receipt)
    assert (found.message_id, found.delivered) == (ours, True)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, 58, 123000, tzinfo=UTC)
    assert (found.response.provider_message_id, found.response.code) == (CALL, "completed")


@pytest.mark.parametrize(
    ("status", "detail", "reason"),
    [
        ("busy", None, Reason.UNDELIVERED),
        ("cancelled", None, Reason.UNDELIVERED),
        ("timeout", None, Reason.UNDELIVERED),
        ("unanswered", "unavailable", Reason.UNDELIVERED),
        ("rejected", "declined", Reason.UNDELIVERED),
        ("rejected", "invalid_number", Reason.INVALID_RECIPIENT),
        ("failed", "number_out_of_service", Reason.INVALID_RECIPIENT),
        ("failed", "a word of tomorrow", Reason.UNDELIVERED),
    ],
)
def test_a_call_that_reached_nobody_says_why(
    status: str, detail: str | None, reason: Reason
) -> None:
    (found,) = said(event(status, detail=detail))
    assert isinstance(found, UnmatchedReceipt)
    assert (found.delivered, found.reason) == (False, reason)
    assert found.response.code == (detail or status)


@pytest.mark.parametrize("status", ["started", "ringing", "answered", "human", "machine"])
def test_what_has_not_ended_is_no_receipt(status: str) -> None:
    assert said(event(status)) == []


def test_what_vonage_did_not_sign_is_refused() -> None:
    body = event("completed")
    for headers in (
        {},
        vonage.signed_headers(body, secret="x" * 40),
        vonage.signed_headers(event("failed")),
        vonage.signed_headers(body, iat=int(NOW.timestamp()) - 301),
    ):
        with pytest.raises(BadSignatureError):
            parser().parse(headers, body, URL)
