"""Amazon's adapters against moto, which others wrote: signed requests, and signed notifications.

moto computes each signature again by Amazon's own library and looks into the user's policy, so that
what is accepted here is signed as Amazon wants it. Its notifications are signed by the key of a
certificate that it serves where Amazon would.
"""

import asyncio
import email
import email.policy
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from comms.platform.clock import utc_now
from consumers.sdk.error_codes import Classifier
from consumers.sdk.outcomes import Accepted, Refused
from consumers.sdk.provider import Provider
from consumers.sdk.receipts import BadSignatureError, NotSetUpError, Receipt, ReceiptEvent
from consumers.sms import aws
from consumers.vendors import sns
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel
from tests.consumers.contract.http_suite import describe
from tests.consumers.contract.samples import (
    closed_port,
    message,
    only_provider,
    settings_with,
    until,
)
from tests.consumers.contract.suite import call
from tests.consumers.email.mails import FROM, full_mail
from tests.counterparts.moto import REGION, Moto, User, element

pytestmark = pytest.mark.moto

TABLES: Mapping[Channel, Mapping[str, object]] = {
    Channel.SMS: {"name": "sns", "region": REGION, "from": "Acme"},
    Channel.EMAIL: {"name": "ses", "region": REGION, "from": FROM},
}


def text() -> SmsMessage:
    """With what a form has to escape."""
    made = message(Channel.SMS, "+12025550142")
    assert isinstance(made, SmsMessage)
    return replace(made, body="Fish & chips = 5 € + tip; 100 %\nÀ bientôt 🐟")


@dataclass(frozen=True, slots=True)
class Users:
    """Who may do what docs/providers.md says that a key must be allowed to do, and who may not."""

    allowed: User
    stranger: User


@pytest.fixture(scope="module")
def users(moto: Moto) -> Users:
    """Beyond what they may do nothing is done."""
    identity = json.dumps({"EmailIdentity": "news@acme.example"}).encode()
    kind = {"Content-Type": "application/json"}
    moto.call("POST", "/v2/email/identities", identity, kind, service="ses")
    allowed = moto.user("sns:Publish", "sns:GetSMSAttributes", "ses:SendEmail", "ses:GetAccount")
    made = Users(allowed, moto.user("sqs:SendMessage"))
    moto.prove_signatures()
    return made


@asynccontextmanager
async def opened(moto: Moto, channel: Channel, user: User) -> AsyncIterator[Provider[Any]]:
    """An adapter of ours that calls moto, as `user`."""
    table = {**TABLES[channel], "base_url": moto.url}
    settings = settings_with(channel, table, environment=user.environment)
    provider = only_provider(settings, channel)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


async def test_a_text_is_signed_as_amazon_wants_it_and_arrives(moto: Moto, users: Users) -> None:
    made = text()
    async with opened(moto, Channel.SMS, users.allowed) as provider:
        outcome = await call(provider, made)
        assert await provider.probe() is None
    assert isinstance(outcome, Accepted), outcome
    kept = {one["message_id"]: one for one in moto.kept("sns", "SMS")}
    found = kept[outcome.response.provider_message_id or ""]
    assert (found["phone_number"], found["message"]) == (made.to, made.body)


async def test_a_number_that_is_none_is_refused(moto: Moto, users: Users) -> None:
    async with opened(moto, Channel.SMS, users.allowed) as provider:
        outcome = await call(provider, replace(text(), to="+02025550142"))
    assert isinstance(outcome, Refused)
    assert outcome.response.code == "InvalidParameter"
    assert "E164" in (outcome.response.detail or "")


async def test_a_mail_is_signed_as_amazon_wants_it_and_arrives(moto: Moto, users: Users) -> None:
    made = full_mail(sender=None)
    async with opened(moto, Channel.EMAIL, users.allowed) as provider:
        outcome = await call(provider, made)
    assert isinstance(outcome, Accepted), outcome
    kept = {one["id"]: one for one in moto.kept("ses", "RawMessage")}
    found = kept[outcome.response.provider_message_id or ""]
    assert {"person@example.com", "bo@example.com"} <= set(found["destinations"])
    mail = email.message_from_string(found["raw_data"], policy=email.policy.default)
    assert mail["subject"] == made.subject


async def test_a_sender_that_is_not_verified_is_the_messages_own(moto: Moto, users: Users) -> None:
    async with opened(moto, Channel.EMAIL, users.allowed) as provider:
        outcome = await call(provider, full_mail(sender="eve@elsewhere.example"))
    assert describe(outcome) == "refused rejected"


@pytest.mark.parametrize("channel", TABLES)
@pytest.mark.parametrize("wrong", ["key", "key_id"])
async def test_a_wrong_key_is_the_accounts_fault(
    moto: Moto, users: Users, channel: Channel, wrong: str
) -> None:
    sent = text() if channel is Channel.SMS else full_mail(sender=None)
    async with opened(moto, channel, replace(users.allowed, **{wrong: "another"})) as provider:
        assert describe(await call(provider, sent)) == "blocked"


async def test_a_probe_tells_a_wrong_key(moto: Moto, users: Users) -> None:
    async with opened(moto, Channel.SMS, replace(users.allowed, key="another")) as provider:
        assert await provider.probe() == "the provider refuses the account (403)"


@pytest.mark.parametrize("channel", TABLES)
async def test_what_a_user_may_not_do_is_the_accounts_fault(
    moto: Moto, users: Users, channel: Channel
) -> None:
    sent = text() if channel is Channel.SMS else full_mail(sender=None)
    async with opened(moto, channel, users.stranger) as provider:
        assert describe(await call(provider, sent)) == "blocked"


@asynccontextmanager
async def subscribed(moto: Moto, topic: str) -> AsyncIterator[list[bytes]]:
    """What a topic's notifications say to a subscriber of ours, as they come."""
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/receipts/sms/aws", take)
    runner, port = web.AppRunner(app), closed_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    endpoint = f"http://127.0.0.1:{port}/receipts/sms/aws"
    moto.form("sns", "Subscribe", TopicArn=topic, Protocol="http", Endpoint=endpoint)
    try:
        yield bodies
    finally:
        await runner.cleanup()


async def publish(moto: Moto, topic: str, said: str) -> None:
    """On a thread: moto hands a notification over before it answers."""
    fields = {"TopicArn": topic, "Message": said}
    await asyncio.to_thread(lambda: moto.form("sns", "Publish", **fields))


async def test_its_notifications_are_taken_and_changed_ones_are_not(
    moto: Moto, users: Users
) -> None:
    del users  # moto checks who asks
    topic = element(moto.form("sns", "CreateTopic", Name="texts"), "TopicArn")
    ours = new_message_id()
    event = {
        "eventType": "TEXT_DELIVERED",
        "eventTimestamp": 1795435198000,
        "messageId": "862a8790-60c0-4430-9b2b-658bdexample",
        "context": {"message_id": str(ours)},
        "messageStatusDescription": "À bientôt 🐟",
    }
    async with subscribed(moto, topic) as bodies:
        await publish(moto, topic, json.dumps(event, ensure_ascii=False))
        (body,) = bodies
    classifier = Classifier(aws.CODES, channel=Channel.SMS, provider="aws")
    proof = sns.Topic(topic, fetch=moto.certificate)
    parser = aws.AwsSmsReceipts(proof, classifier=classifier, clock=utc_now)

    def parsed(body: bytes) -> Sequence[ReceiptEvent] | None:
        try:
            return parser.parse({}, body, "")
        except NotSetUpError:
            return None  # the certificate is on its way

    await until(lambda: parsed(body) is not None)
    (receipt,) = parsed(body) or ()
    assert isinstance(receipt, Receipt)
    assert (receipt.message_id, receipt.delivered) == (ours, True)
    assert receipt.response.detail == "À bientôt 🐟"
    for changed in (
        body.replace(b"TEXT_DELIVERED", b"TEXT_INVALID!!"),
        body.replace(topic.encode(), topic.replace("texts", "mails").encode()),
        body.replace(b'"Timestamp": "2', b'"Timestamp": "1'),
    ):
        assert changed != body
        with pytest.raises(BadSignatureError):
            parser.parse({}, changed, "")
