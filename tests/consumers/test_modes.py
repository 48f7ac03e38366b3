"""A message for a provider's own test mode: what of its request says so, and who has none."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest

from consumers.registry import PROVIDER_TYPES, capabilities_of
from consumers.sdk.capabilities import ANY_MODE, LIVE, LIVE_AND_TEST
from consumers.sdk.outcomes import Accepted, AccountError, Refused, without_side_effects
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage, Message
from schemas.vocabulary import Channel, Mode, Reason, SuppressionReason
from tests.consumers.contract.http_suite import Dialogue, Recorded, Stub
from tests.consumers.contract.samples import settings_with
from tests.consumers.contract.suite import call
from tests.consumers.email import test_mailgun, test_postmark, test_resend, test_sendgrid, test_ses
from tests.consumers.push import test_fcm
from tests.consumers.sms import test_aws_sms, test_twilio_sms
from tests.consumers.voice import test_twilio_voice

TWILIO = {"TWILIO_TEST_ACCOUNT_SID": "ACtest", "TWILIO_TEST_AUTH_TOKEN": "the token for tests"}


def with_environment(dialogue: Dialogue, more: dict[str, str]) -> Dialogue:
    return replace(dialogue, environment={**dialogue.environment, **more})


def of_json(path: str, *keys: str) -> Callable[[Recorded], object]:
    def found(asked: Recorded) -> object:
        value: Any = json.loads(asked.body)
        for key in keys:
            value = value.get(key, {})
        return value

    found.__name__ = path
    return found


def of_form(asked: Recorded) -> object:
    said = parse_qs(asked.body.decode())
    return asked.path.split("/")[3], said["From"], "StatusCallback" in said


CASES: dict[str, tuple[Dialogue, Callable[[Recorded], object], object]] = {
    "twilio sms": (
        with_environment(test_twilio_sms.TestTwilioSms.dialogue, TWILIO),
        of_form,
        ("ACtest", ["+15005550006"], False),
    ),
    "twilio voice": (
        with_environment(test_twilio_voice.TestTwilioVoice.dialogue, TWILIO),
        of_form,
        ("ACtest", ["+15005550006"], False),
    ),
    "aws": (test_aws_sms.TestAwsSms.dialogue, of_json("DryRun", "DryRun"), True),
    "fcm": (test_fcm.TestFcm.dialogue, of_json("validateOnly", "validateOnly"), True),
    "sendgrid": (
        test_sendgrid.TestSendGrid.dialogue,
        of_json("sandbox", "mail_settings", "sandbox_mode", "enable"),
        True,
    ),
    "mailgun": (
        test_mailgun.TestMailgun.dialogue,
        lambda asked: b'name="o:testmode"\r\n\r\nyes\r\n' in asked.body,
        True,
    ),
    "postmark": (
        test_postmark.TestPostmark.dialogue,
        lambda asked: asked.headers["X-Postmark-Server-Token"],
        "POSTMARK_API_TEST",
    ),
}


@asynccontextmanager
async def stub_of(dialogue: Dialogue) -> AsyncIterator[Stub]:
    is_fcm = dialogue.table["name"] == "fcm"
    stub = test_fcm.FcmStub(dialogue) if is_fcm else Stub(dialogue)
    await stub.start()
    try:
        yield stub
    finally:
        await stub.stop()


async def asked_of(dialogue: Dialogue, message: Message, stub: Stub) -> Recorded:
    """What the provider is asked for a message that it takes."""
    provider = dialogue.provider(stub.url)
    await provider.open()
    assert isinstance(await call(provider, message), Accepted)
    await provider.close()
    return stub.requests[-1]


@pytest.mark.parametrize("case", CASES)
async def test_a_test_says_that_it_is_one_and_nothing_else_does(case: str) -> None:
    dialogue, look, expected = CASES[case]
    async with stub_of(dialogue) as stub:
        message = stub.message(None)
        asked = await asked_of(dialogue, replace(message, mode=Mode.TEST), stub)
        assert look(asked) == expected
        assert look(await asked_of(dialogue, message, stub)) != expected


@pytest.mark.parametrize(
    ("dialogue", "own"),
    [
        (test_ses.TestSes.dialogue, "bounce@simulator.amazonses.com"),
        (test_resend.TestResend.dialogue, "Ann <delivered+label@resend.dev>"),
    ],
    ids=["ses", "resend"],
)
async def test_where_addresses_are_the_test_mode_no_other_is_written_to(
    dialogue: Dialogue, own: str
) -> None:
    async with stub_of(dialogue) as stub:
        provider = dialogue.provider(stub.url)
        await provider.open()
        plain = stub.message(None)
        assert isinstance(plain, EmailMessage)
        test = replace(plain, mode=Mode.TEST)
        for one in (test, replace(test, to=own, cc=("ann@example.com",))):
            refused = await call(provider, one)
            assert isinstance(refused, Refused)
            assert refused.reason is Reason.INVALID_RECIPIENT
        assert stub.requests == []
        await call(provider, replace(test, to=own))
        assert len(stub.requests) == 1
        await provider.close()


VALUES = {
    "from": "news@acme.example",
    "region": "eu-west-1",
    "host": "mail.example.com",
    "system_id": "acme",
    "domain": "acme.example",
    "key_id": "K1",
    "team_id": "T1",
    "topic": "com.example.app",
    "subject": "mailto:push@acme.example",
}


def modes(channel: Channel, name: str, environment: dict[str, str]) -> frozenset[Mode]:
    """The modes of a provider type whose table has no more than it must."""
    fields = PROVIDER_TYPES[channel][name].options.model_fields
    keys = {f.alias or key for key, f in fields.items() if f.is_required() or f.alias == "from"}
    table = {"name": name, **{key: VALUES[key] for key in keys}}
    settings = settings_with(channel, table, environment=environment)
    return capabilities_of(channel, settings.channels[channel].providers[0], settings).modes


def test_which_types_have_a_test_mode() -> None:
    """The whole list: a type that is added says which modes it accepts."""
    actual = {
        f"{channel} {name}": modes(channel, name, {})
        for channel, types in PROVIDER_TYPES.items()
        for name in types
    }
    with_test = {name for name, its in actual.items() if its == LIVE_AND_TEST}
    assert with_test == {
        *("sms aws", "push fcm"),
        *("email sendgrid", "email mailgun", "email postmark", "email ses", "email resend"),
    }
    simulated = {name for name, its in actual.items() if its == ANY_MODE}
    assert simulated == {f"{channel} simulated" for channel in Channel}
    assert {its for name, its in actual.items() if name not in with_test | simulated} == {LIVE}
    assert modes(Channel.SMS, "twilio", TWILIO) == LIVE_AND_TEST
    assert modes(Channel.VOICE, "twilio", TWILIO) == LIVE_AND_TEST


def test_what_a_test_comes_to_has_no_consequences() -> None:
    response = ProviderResponse(code="20003")
    assert without_side_effects(AccountError(response=response)) == Refused(
        reason=Reason.REJECTED, response=response
    )
    opted_out = Refused(reason=Reason.SUPPRESSED, suppress=SuppressionReason.OPT_OUT)
    assert without_side_effects(opted_out) == replace(opted_out, suppress=None)
    assert without_side_effects(Accepted(response=response)) == Accepted(response=response)
