"""Adapters against Prism, which goes by their providers' own OpenAPI documents.

What each sends is allowed by the document, field for field, with everything in it that a message
may have; that Prism looks is shown by requests that are changed on their way. What providers mean
by their answers is not in their documents: `tests.providers` has it.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from comms.stack.errors import EngineError
from consumers.sdk.outcomes import Accepted, Outcome
from consumers.sdk.provider import Provider
from schemas.messages import Message, PushMessage, SmsMessage, VoiceMessage
from schemas.vocabulary import Channel, Priority
from tests.consumers.contract.http_suite import PUBLIC_URL, Dialogue, describe
from tests.consumers.contract.samples import email, message, only_provider, settings_with
from tests.consumers.contract.suite import call
from tests.consumers.email import test_postmark, test_sendgrid, test_ses
from tests.consumers.email.mails import TO, full_mail
from tests.consumers.push import test_fcm
from tests.consumers.sms import test_aws_sms, test_telnyx_sms, test_twilio_sms, test_vonage_sms
from tests.consumers.voice import test_twilio_voice, test_vonage_voice
from tests.counterparts.between import Change, ReceiptEvent, between, without
from tests.counterparts.documents import DOCUMENTS, cut
from tests.counterparts.prism import Prism

pytestmark = pytest.mark.node

NUMBER = "+12025550142"


def texts() -> Sequence[Message]:
    """A plain one, and one with everything."""
    made = message(Channel.SMS, NUMBER)
    assert isinstance(made, SmsMessage)
    soon = datetime.now(UTC) + timedelta(minutes=5)
    return made, replace(made, sender="+15005550007", expires_at=soon, body="Grüße 🐟 " * 20)


def calls() -> Sequence[Message]:
    """A plain one, one with everything, and one that is played."""
    made = message(Channel.VOICE, NUMBER)
    assert isinstance(made, VoiceMessage)
    full = replace(made, sender="+15005550007", language="en-GB", voice="2", repeat=3)
    played = replace(made, text=None, audio_url="https://acme.example/audio.mp3", repeat=2)
    return made, full, played


def mails() -> Sequence[Message]:
    """A plain one, and one with everything."""
    return email(TO), full_mail()


def notifications() -> Sequence[Message]:
    """A plain one, and one with everything."""
    made = message(Channel.PUSH, "a-token")
    assert isinstance(made, PushMessage)
    data = {"screen": "inbox"}
    full = replace(made, data=data, badge=2, collapse_key="k", ttl=60, priority=Priority.BULK)
    return made, full


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An adapter, and the document that it is held to.

    Args:
        needs: a field without which a request is none.
        names: the id that the document has as an example, or none where it has no example.
        proof: the header that says who calls; None where the document does not ask for it.
        always: what has to be changed for Prism's sake.
    """

    document: str
    dialogue: Dialogue
    messages: Sequence[Message]
    needs: str
    names: str | None = "string"
    proof: str | None = "authorization"
    always: Change | None = None


def as_json(said: ReceiptEvent) -> ReceiptEvent:
    """Prism reads no JSON that is called otherwise, and Amazon takes none that is not."""
    assert said.headers["content-type"] == "application/x-amz-json-1.0"
    return replace(said, headers={**said.headers, "content-type": "application/json"})


TWILIO_ID = "stringstringstringstringstringstri"
CASES: Mapping[str, Case] = {
    "twilio texts": Case(
        document="twilio",
        dialogue=test_twilio_sms.TestTwilioSms.dialogue,
        messages=texts(),
        needs="To",
        names=TWILIO_ID,
    ),
    "twilio calls": Case(
        document="twilio",
        dialogue=test_twilio_voice.TestTwilioVoice.dialogue,
        messages=calls(),
        needs="To",
        names=TWILIO_ID,
    ),
    "telnyx": Case(
        document="telnyx",
        dialogue=test_telnyx_sms.TestTelnyxSms.dialogue,
        messages=texts(),
        needs="to",
        names="40385f64-5717-4562-b3fc-2c963f66afa6",
    ),
    "vonage texts": Case(
        document="vonage messages",
        dialogue=test_vonage_sms.TestVonageSms.dialogue,
        messages=texts(),
        needs="text",
        names="aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    ),
    "vonage calls": Case(
        document="vonage voice",
        dialogue=test_vonage_voice.TestVonageVoice.dialogue,
        messages=calls(),
        needs="to",
        names="63f61863-4a51-4f6b-86e1-46edebcf9356",
    ),
    "aws": Case(
        document="aws",
        dialogue=test_aws_sms.TestAwsSms.dialogue,
        messages=texts(),
        needs="DestinationPhoneNumber",
        always=as_json,
    ),
    "sendgrid": Case(
        document="sendgrid",
        dialogue=test_sendgrid.TestSendGrid.dialogue,
        messages=mails(),
        needs="personalizations",
        names=None,  # it comes in a header that the document does not have
    ),
    "postmark": Case(
        document="postmark",
        dialogue=test_postmark.TestPostmark.dialogue,
        messages=mails(),
        needs="From",
        proof=None,
    ),
    "ses": Case(
        document="ses",
        dialogue=test_ses.TestSes.dialogue,
        messages=mails(),
        needs="Content",
    ),
    "fcm": Case(
        document="fcm",
        dialogue=test_fcm.TestFcm.dialogue,
        messages=notifications(),
        needs="message",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def prism(
    case: Case,
    documents: Mapping[str, Path],
    packages: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prism]:
    document = DOCUMENTS[case.document]
    allowed = cut(document, documents[document.file])
    try:
        made = Prism(allowed, packages=packages, folder=tmp_path_factory.mktemp("prism"))
        made.start()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
    yield made
    made.stop()


@pytest.fixture
async def google() -> AsyncIterator[str]:
    """Where access tokens are had."""
    stub = test_fcm.FcmStub(test_fcm.TestFcm.dialogue)
    await stub.start()
    yield f"{stub.url}/token"
    await stub.stop()


@asynccontextmanager
async def opened(case: Case, url: str, google: str) -> AsyncIterator[Provider[Any]]:
    """The case's adapter, calling `url`."""
    dialogue = case.dialogue
    table = {**dialogue.table, "base_url": url}
    if case.document == "fcm":
        table["token_uri"] = google
    environment = {**dialogue.environment, "COMMS_PUBLIC_URL": PUBLIC_URL}
    settings = settings_with(dialogue.channel, table, environment=environment, timeout_seconds=30)
    provider = only_provider(settings, dialogue.channel)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


async def outcome_of(
    case: Case, sent: Message, prism: Prism, google: str, change: Change
) -> Outcome:
    """What a request comes to that was changed on its way."""

    def both(said: ReceiptEvent) -> ReceiptEvent:
        return change(said if case.always is None else case.always(said))

    async with between(prism.url, both) as url, opened(case, url, google) as provider:
        return await call(provider, sent)


@asynccontextmanager
async def straight(case: Case, prism: Prism) -> AsyncIterator[str]:
    """Prism's own address, where nothing has to be changed for its sake."""
    if case.always is None:
        yield prism.url
    else:
        async with between(prism.url, case.always) as url:
            yield url


async def test_what_is_sent_is_what_the_document_allows(
    case: Case, prism: Prism, google: str
) -> None:
    async with straight(case, prism) as url, opened(case, url, google) as provider:
        for sent in case.messages:
            outcome = await call(provider, sent)
            assert isinstance(outcome, Accepted), prism.said_of_requests()
            assert outcome.response.provider_message_id == case.names


async def test_what_proves_the_account_is_what_the_document_allows(
    case: Case, prism: Prism, google: str
) -> None:
    async with straight(case, prism) as url, opened(case, url, google) as provider:
        assert await provider.probe() is None


async def test_a_request_without_what_it_needs_is_refused(
    case: Case, prism: Prism, google: str
) -> None:
    def change(said: ReceiptEvent) -> ReceiptEvent:
        if said.headers["content-type"].endswith("urlencoded"):
            form = f"&{said.body.decode()}".replace(f"&{case.needs}=", "&Novelty=")
            return replace(said, body=form[1:].encode())
        value = json.loads(said.body)
        value["novelty"] = value.pop(case.needs)
        return replace(said, body=json.dumps(value).encode())

    outcome = await outcome_of(case, case.messages[0], prism, google, change)
    assert describe(outcome).startswith("refused"), outcome


async def test_a_request_that_does_not_say_who_calls_is_the_accounts_fault(
    case: Case, prism: Prism, google: str
) -> None:
    dropped = case.proof or "x-postmark-server-token"
    outcome = await outcome_of(case, case.messages[0], prism, google, without(dropped))
    # Postmark's document has its token among what a request needs.
    assert describe(outcome) == ("blocked" if case.proof else "refused rejected")
