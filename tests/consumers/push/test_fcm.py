"""Notifications by FCM: the contract, its requests, its access tokens, and many devices at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from consumers.sdk.outcomes import Accepted, Refused
from consumers.sdk.provider import Attempt, Provider
from schemas.messages import PushMessage, WebPushSubscription
from schemas.vocabulary import Channel, Platform, Priority, SuppressionReason
from tests.consumers.contract.http_suite import (
    HANG_UP,
    Dialogue,
    HttpContract,
    Reply,
    Stub,
    describe,
)
from tests.consumers.contract.samples import message
from tests.consumers.contract.suite import Subject, call

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ACCOUNT = {
    "type": "service_account",
    "project_id": "acme",
    "private_key_id": "key-1",
    "private_key": PEM,
    "client_email": "push@acme.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}
TOKEN = "ya29.an-access-token"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def error(
    status: int,
    canonical: str,
    own: str | None = None,
    *,
    fields: tuple[str, ...] = (),
    said: str = "As documented",
    after: int | None = None,
) -> Reply:
    """An error as FCM writes it."""
    details: list[dict[str, Any]] = []
    if own:
        kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
        details.append({"@type": kind, "errorCode": own})
    if fields:
        violations = [{"field": field, "description": said} for field in fields]
        kind = "type.googleapis.com/google.rpc.BadRequest"
        details.append({"@type": kind, "fieldViolations": violations})
    value = {"code": status, "message": said, "status": canonical, "details": details}
    headers = {} if after is None else {"Retry-After": str(after)}
    return Reply(status, json.dumps({"error": value}), headers)


def push(*tokens: str, **more: Any) -> PushMessage:
    made = message(Channel.PUSH, "one")
    assert isinstance(made, PushMessage)
    return replace(made, tokens=tokens, **more)


class FcmDialogue(Dialogue):
    """FCM's, whose access tokens come from the stub too."""

    def provider(self, url: str, *, seconds: float = 30, **more: str) -> Provider[Any]:
        own = replace(self, table={**self.table, "token_uri": f"{url}/token"})
        return super(FcmDialogue, own).provider(url, seconds=seconds, **more)


class FcmStub(Stub):
    """Both ends of Google; exchanges are recorded apart."""

    def __init__(self, dialogue: Dialogue) -> None:
        super().__init__(dialogue)
        self.exchanges: list[dict[str, list[str]]] = []
        self.exchange = Reply(200, json.dumps({"access_token": TOKEN, "expires_in": 3599}))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/token":
            return await super()._answer(request)
        self.exchanges.append(parse_qs((await request.read()).decode()))
        return web.Response(status=self.exchange.status, text=self.exchange.text)


UNREGISTERED = error(404, "NOT_FOUND", "UNREGISTERED")
BUSY = error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
UNAVAILABLE = error(503, "UNAVAILABLE", "UNAVAILABLE")


class TestFcm(HttpContract):
    dialogue = FcmDialogue(
        channel=Channel.PUSH,
        table={"name": "fcm"},
        environment={"GOOGLE_APPLICATION_CREDENTIALS": json.dumps(ACCOUNT)},
        accepted=lambda n: Reply(200, json.dumps({"name": f"projects/acme/messages/{n}"})),
        refused=UNREGISTERED,
        transient=UNAVAILABLE,
        errors={
            "gone": (UNREGISTERED, "refused invalid_recipient hard_bounce"),
            "gone, in Google's words alone": (
                error(404, "NOT_FOUND"),
                "refused invalid_recipient",
            ),
            "a field of the token": (
                error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", fields=("message.token",)),
                "refused invalid_recipient",
            ),
            "the token, in a sentence": (
                error(
                    400,
                    "INVALID_ARGUMENT",
                    "INVALID_ARGUMENT",
                    said="The registration token is not a valid FCM registration token",
                ),
                "refused invalid_recipient",
            ),
            "another field": (
                error(400, "INVALID_ARGUMENT", fields=("message.data[0].value",)),
                "refused invalid_content",
            ),
            "too big": (error(400, "INVALID_ARGUMENT"), "refused invalid_content"),
            "another project's token": (
                error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
                "refused invalid_recipient",
            ),
            "the project's APNs key": (
                error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"),
                "refused rejected",
            ),
            "no permission": (error(403, "PERMISSION_DENIED"), "blocked"),
            "a bad token of access": (error(401, "UNAUTHENTICATED"), "blocked"),
            "quota": (BUSY, "later rate_limited 60"),
            "quota, with a time": (
                error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", after=90),
                "later rate_limited 90",
            ),
            "overloaded": (UNAVAILABLE, "later provider_error 10"),
            "internal": (error(500, "INTERNAL", "INTERNAL"), "later provider_error 10"),
            "an error of another form": (
                Reply(400, '{"error": {"status": 7, "details": 5}}'),
                "refused rejected",
            ),
            "details of another form": (
                Reply(
                    400,
                    '{"error":{"status":"INVALID_ARGUMENT","details":[1,{"fieldViolations":[2]}]}}',
                ),
                "refused invalid_content",
            ),
            "a code of tomorrow": (
                error(400, "FAILED_PRECONDITION", "NEW_CODE"),
                "refused rejected",
            ),
        },
        needs="GOOGLE_APPLICATION_CREDENTIALS",
        recipient=lambda n: f"device-{n:04}-of-somebody",
    )

    @pytest.fixture
    async def stub(self) -> AsyncIterator[FcmStub]:
        made = FcmStub(self.dialogue)
        await made.start()
        yield made
        await made.stop()

    async def test_the_request_is_fcms(self, subject: Subject, stub: FcmStub) -> None:
        made = push(
            "one",
            priority=Priority.HIGH,
            ttl=3600,
            badge=3,
            collapse_key="match-7",
            data={"screen": "inbox"},
        )
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v1/projects/acme/messages:send")
        assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
        sent = json.loads(asked.body)["message"]
        ends = int(sent["apns"]["headers"].pop("apns-expiration"))
        assert abs(ends - datetime.now(UTC).timestamp() - 3600) < 60
        assert sent == {
            "token": "one",
            "notification": {"title": made.title, "body": made.body},
            "data": {"screen": "inbox"},
            "android": {
                "priority": "HIGH",
                "ttl": "3600s",
                "collapseKey": "match-7",
                "notification": {"notificationCount": 3},
            },
            "apns": {
                "headers": {"apns-priority": "10", "apns-collapse-id": "match-7"},
                "payload": {"aps": {"sound": "default", "badge": 3}},
            },
        }

    async def test_a_message_is_not_kept_for_longer_than_it_may_be_sent(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        ends = datetime.now(UTC) + timedelta(seconds=100)
        await call(subject.provider, push("one", ttl=3600, expires_at=ends))
        sent = json.loads(stub.requests[-1].body)["message"]
        assert 40 <= int(sent["android"]["ttl"].removesuffix("s")) <= 100

    async def test_a_probe_validates_and_sends_nothing(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        assert await subject.provider.probe() is None
        asked = json.loads(stub.requests[-1].body)
        assert asked["validateOnly"] is True
        assert "token" not in asked["message"]

    async def test_one_exchange_serves_all_and_is_signed_by_the_account(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        await asyncio.gather(*(call(subject.provider, push(f"t{n}")) for n in range(20)))
        (asked,) = stub.exchanges
        (statement,) = asked["assertion"]
        where = f"{stub.url}/token"
        claims = jwt.decode(statement, KEY.public_key(), algorithms=["RS256"], audience=where)
        assert claims["iss"] == ACCOUNT["client_email"]
        assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        assert jwt.get_unverified_header(statement)["kid"] == "key-1"
        assert asked["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]

    async def test_a_token_that_is_refused_is_not_used_again(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        refused = stub.message(error(401, "UNAUTHENTICATED"))
        assert describe(await call(subject.provider, refused)) == "blocked"
        await call(subject.provider, push("one"))
        assert len(stub.exchanges) == 2

    @pytest.mark.parametrize(
        ("reply", "expected"),
        [
            (Reply(400, json.dumps({"error": "invalid_grant"})), "blocked"),
            (Reply(401, json.dumps({"error": "invalid_client"})), "blocked"),
            (Reply(429), "later rate_limited"),
            (Reply(500), "later provider_error"),
            (Reply(200, "<html>"), "later provider_error"),
        ],
    )
    async def test_without_a_token_nothing_is_sent(
        self, subject: Subject, stub: FcmStub, reply: Reply, expected: str
    ) -> None:
        stub.exchange = reply
        assert describe(await call(subject.provider, push("one"))) == expected
        assert await subject.provider.probe()
        assert stub.requests == []

    @pytest.mark.parametrize(
        "made",
        [
            push("one", platform=Platform.APNS),
            push(subscription=WebPushSubscription(endpoint="https://x", p256dh="a", auth="b")),
            push("one", data={"k": "v" * 4096}),
            push("one", data={"google.x": "x"}),
        ],
        ids=["another platform", "a subscription", "too big", "a key of Google's"],
    )
    async def test_what_is_not_for_it_is_refused_without_a_call(
        self, subject: Subject, stub: FcmStub, made: PushMessage
    ) -> None:
        assert describe(await call(subject.provider, made)) == "refused invalid_content"
        assert stub.requests == []

    async def test_each_of_many_devices_is_told_and_one_that_accepts_is_enough(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        made = several(stub, UNREGISTERED, None, BUSY, HANG_UP)
        outcome = await call(subject.provider, made)
        assert isinstance(outcome, Accepted)
        assert outcome.response.provider_message_id == "projects/acme/messages/1"
        assert outcome.response.detail == "1 of 4 devices accepted, 1 are gone"
        devices = json.loads(outcome.response.raw or "")
        assert [(d["n"], d["became"]) for d in devices] == [
            (0, "invalid_recipient"),
            (2, "rate_limited"),
            (3, "ambiguous"),
            (1, "accepted"),
        ]
        assert devices[0]["said"] == "UNREGISTERED"
        assert not any(token in repr(outcome.response) for token in made.tokens)

    async def test_what_several_devices_come_to_where_none_accepts(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        big = error(400, "INVALID_ARGUMENT")
        cases = {
            "refused invalid_recipient": (UNREGISTERED, UNREGISTERED),
            "refused invalid_content": (UNREGISTERED, big),
            "later rate_limited 60": (UNREGISTERED, BUSY),
            "later provider_error 60": (BUSY, UNAVAILABLE),
            "blocked": (BUSY, error(403, "PERMISSION_DENIED")),
            "ambiguous": (HANG_UP, BUSY, UNREGISTERED),
        }
        found = [
            describe(await call(subject.provider, several(stub, *replies)))
            for replies in cases.values()
        ]
        assert found == list(cases)

    async def test_devices_that_are_gone_are_named_for_the_suppression_list(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        alone = await call(subject.provider, several(stub, UNREGISTERED))
        assert isinstance(alone, Refused)
        assert (alone.suppress, alone.invalid_recipients) == (SuppressionReason.HARD_BOUNCE, ())
        made = several(stub, UNREGISTERED, UNREGISTERED)
        both = await call(subject.provider, made)
        assert isinstance(both, Refused)
        assert (both.suppress, both.invalid_recipients) == (None, made.tokens)
        made = several(stub, None, UNREGISTERED, error(403, "PERMISSION_DENIED"))
        some = await call(subject.provider, made)
        assert isinstance(some, Accepted)
        assert some.invalid_recipients == made.tokens[1:2]
        assert not any(token in repr(some) + repr(both) for token in made.tokens)

    async def test_a_device_on_the_suppression_list_is_not_called_and_told_of(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        made = several(stub, None, None)
        suppressed_recipients = Attempt(
            made.id, 1, suppressed_recipients=frozenset(made.tokens[:1])
        )
        outcome = await subject.provider.send(made, suppressed_recipients)
        assert isinstance(outcome, Accepted)
        assert len(stub.requests) == 1
        devices = json.loads(outcome.response.raw or "")
        assert [(d["n"], d["became"]) for d in devices] == [(0, "suppressed"), (1, "accepted")]
        made = several(stub, None, UNREGISTERED)
        suppressed_recipients = Attempt(
            made.id, 1, suppressed_recipients=frozenset(made.tokens[:1])
        )
        assert (
            describe(await subject.provider.send(made, suppressed_recipients))
            == "refused invalid_recipient"
        )

    async def test_a_token_given_twice_is_notified_once(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        await call(subject.provider, push("one", "two", "one"))
        assert len(stub.requests) == 2

    async def test_five_hundred_devices_fit_into_the_words(
        self, subject: Subject, stub: FcmStub
    ) -> None:
        made = several(stub, *[UNREGISTERED] * 500)
        outcome = await call(subject.provider, made)
        assert (len(stub.requests), outcome.response.code) == (500, "UNREGISTERED")
        assert len(outcome.response.raw or "") <= 4096
        assert "more" in json.loads(outcome.response.raw or "")[-1]


def several(stub: Stub, *replies: Reply | None) -> PushMessage:
    """A message to as many devices, each answered so."""
    messages = [stub.message(reply) for reply in replies]
    return push(*(one.recipient for one in messages))
