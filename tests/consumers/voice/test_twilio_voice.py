"""Calls by Twilio: the contract, its requests, and its signed callbacks held to its own library."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode
from xml.etree.ElementTree import Element, fromstring

import pytest
from twilio.request_validator import RequestValidator

from comms.platform.settings import Secret, SettingsError
from consumers.sdk.error_codes import Classifier
from consumers.sdk.receipts import BadSignatureError, Receipt, ReceiptEvent, UnmatchedReceipt
from consumers.vendors import twilio
from consumers.voice.twilio import CODES, TwilioVoiceReceipts, twiml
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

SID, TOKEN = "AC" + "0123456789abcdef" * 2, "the auth token"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
URL = f"{PUBLIC_URL}/receipts/voice/twilio"
ENVIRONMENT = {"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": TOKEN}


def error(status: int, code: int) -> Reply:
    """An error as Twilio writes it."""
    more = f"https://www.twilio.com/docs/errors/{code}"
    value = {"code": code, "message": "As documented", "more_info": more, "status": status}
    return Reply(status, json.dumps(value))


def spoken(**more: Any) -> VoiceMessage:
    made = message(Channel.VOICE, "+12025550142")
    assert isinstance(made, VoiceMessage)
    return replace(made, **more)


class TestTwilioVoice(NamingContract):
    dialogue = Dialogue(
        channel=Channel.VOICE,
        table={"name": "twilio", "from": "+15005550006", "machine_detection": "DetectMessageEnd"},
        environment=ENVIRONMENT,
        accepted=lambda n: Reply(201, json.dumps({"sid": f"CA{n:032x}", "status": "queued"})),
        refused=error(400, 21211),
        transient=error(503, 20503),
        errors={
            "cannot be reached": (error(400, 21214), "refused invalid_recipient"),
            "does not exist": (error(400, 13224), "refused invalid_recipient"),
            "a country that is not enabled": (error(400, 21215), "refused rejected"),
            "blocked": (error(400, 21216), "refused rejected"),
            "not verified, on trial": (error(400, 21219), "refused rejected"),
            "our sender": (error(400, 21210), "blocked"),
            "wrong credentials": (error(401, 20003), "blocked"),
            "not active": (error(400, 10001), "blocked"),
            "too many calls": (error(400, 10004), "later rate_limited"),
            "too many at once": (error(429, 20429), "later rate_limited"),
            "internal": (error(500, 20500), "later provider_error"),
            "a code of tomorrow": (error(400, 29999), "refused rejected"),
        },
        needs="TWILIO_AUTH_TOKEN",
    )

    async def test_the_request_is_twilios(self, subject: Subject, stub: Stub) -> None:
        made = spoken()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", f"/2010-04-01/Accounts/{SID}/Calls.json")
        fields = {name: value for name, (value,) in parse_qs(asked.body.decode()).items()}
        assert fields == {
            "To": made.to,
            "From": "+15005550006",
            "Twiml": '<Response><Say loop="1">Hello</Say></Response>',
            "Timeout": "60",
            "MachineDetection": "DetectMessageEnd",
            "StatusCallback": f"{URL}?m={made.id}",
        }

    async def test_a_messages_own_sender_is_not_the_accounts_fault(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(error(400, 21210))
        assert isinstance(made, VoiceMessage)
        outcome = await call(subject.provider, replace(made, sender="+15005550007"))
        assert describe(outcome) == "refused invalid_content"

    async def test_what_twilio_would_cut_is_refused_unasked(
        self, subject: Subject, stub: Stub
    ) -> None:
        before = len(stub.requests)
        outcome = await call(subject.provider, spoken(text="&" * 1000))
        assert describe(outcome) == "refused invalid_content"
        assert len(stub.requests) == before


def read(made: VoiceMessage) -> Element:
    """The one thing that Twilio is told to do, as an XML reader finds it."""
    (found,) = fromstring(twiml(made))  # noqa: S314 - it is our own
    return found


def test_what_is_said_is_xml_whatever_is_said() -> None:
    text = "Fish & chips <now>\x00 \u2014 \U0001f41f \"both\" 'ways'"
    say = read(spoken(text=text, language="en-GB", voice='Polly."Amy"', repeat=3))
    assert (say.tag, say.text) == ("Say", text.replace("\x00", " "))
    assert say.attrib == {"language": "en-GB", "voice": 'Polly."Amy"', "loop": "3"}


def test_a_sound_is_played() -> None:
    url = "https://example.com/a.mp3?x=1&y=2"
    play = read(spoken(text=None, audio_url=url, repeat=2))
    assert (play.tag, play.text, play.attrib) == ("Play", url, {"loop": "2"})


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"machine_detection": "maybe"}, "machine_detection"),
        ({"ring_seconds": 601}, "ring_seconds"),
        ({"from": ""}, "from"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(more: dict[str, Any], key: str) -> None:
    table = {"name": "twilio", "from": "+15005550006", **more}
    with pytest.raises(SettingsError) as caught:
        only_provider(settings_with(Channel.VOICE, table, environment=ENVIRONMENT), Channel.VOICE)
    assert caught.value.key == f"voice.providers[twilio].{key}"


def parser() -> TwilioVoiceReceipts:
    keys = twilio.Keys(token=Secret(TOKEN), shared=None)
    classifier = Classifier(CODES, channel=Channel.VOICE, provider="twilio")
    return TwilioVoiceReceipts(keys, classifier=classifier, clock=lambda: NOW)


def said(fields: dict[str, str], url: str = URL) -> list[ReceiptEvent]:
    """What a callback says, signed by Twilio's own library."""
    headers = {"x-twilio-signature": RequestValidator(TOKEN).compute_signature(url, fields)}
    return list(parser().parse(headers, urlencode(fields).encode(), url))


def status(word: str, **more: str) -> dict[str, str]:
    return {"CallSid": "CA1", "CallStatus": word, "To": "+12025550142", "CallDuration": "9", **more}


@pytest.mark.parametrize(
    ("answered_by", "delivered"),
    [
        ("", True),
        ("human", True),
        ("unknown", True),
        ("machine_end_beep", True),
        ("machine_end_silence", True),
        ("machine_start", False),
        ("fax", False),
    ],
)
def test_who_answered_is_told_and_a_greeting_is_nobody(answered_by: str, delivered: bool) -> None:
    ours = new_message_id()
    (found,) = said(status("completed", AnsweredBy=answered_by), f"{URL}?m={ours}")
    assert isinstance(found, Receipt)
    assert (found.message_id, found.delivered, found.occurred_at) == (ours, delivered, NOW)
    assert found.response.code == (answered_by or "completed")
    assert found.response.provider_message_id == "CA1"


@pytest.mark.parametrize(
    ("word", "more", "code", "reason"),
    [
        ("busy", {"SipResponseCode": "486"}, "busy", Reason.UNDELIVERED),
        ("no-answer", {}, "no-answer", Reason.UNDELIVERED),
        ("canceled", {}, "canceled", Reason.UNDELIVERED),
        ("failed", {}, "failed", Reason.UNDELIVERED),
        ("failed", {"SipResponseCode": "404"}, "sip:404", Reason.INVALID_RECIPIENT),
        ("failed", {"SipResponseCode": "503"}, "sip:503", Reason.UNDELIVERED),
        ("failed", {"ErrorCode": "13224"}, "13224", Reason.INVALID_RECIPIENT),
    ],
)
def test_a_call_that_reached_nobody_says_why(
    word: str, more: dict[str, str], code: str, reason: Reason
) -> None:
    (found,) = said(status(word, **more))
    assert isinstance(found, UnmatchedReceipt)
    assert (found.delivered, found.reason, found.response.code) == (False, reason, code)


@pytest.mark.parametrize("word", ["queued", "initiated", "ringing", "in-progress"])
def test_what_has_not_ended_is_no_receipt(word: str) -> None:
    assert said(status(word)) == []


@pytest.mark.parametrize("changed", ["body", "url", "signature"])
def test_what_twilio_did_not_sign_is_refused(changed: str) -> None:
    fields = status("completed")
    signed = RequestValidator(TOKEN).compute_signature(URL, fields)
    fields["CallStatus"] = "failed" if changed == "body" else "completed"
    headers = {} if changed == "signature" else {"x-twilio-signature": signed}
    url = f"{URL}?m=1" if changed == "url" else URL
    with pytest.raises(BadSignatureError):
        parser().parse(headers, urlencode(fields).encode(), url)
