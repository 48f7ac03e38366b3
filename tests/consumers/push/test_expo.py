"""Notifications by Expo: the contract, its requests, and tickets that say no inside a 200."""

import json
from dataclasses import replace
from typing import Any

import pytest

from consumers.sdk.outcomes import Accepted
from schemas.messages import PushMessage
from schemas.vocabulary import Channel, Platform, Priority
from tests.consumers.contract.http_suite import Dialogue, HttpContract, Reply, Stub, describe
from tests.consumers.contract.samples import message
from tests.consumers.contract.suite import Subject, call


def token(number: int) -> str:
    return f"ExponentPushToken[device-{number:06}-of-somebody]"


def ticket(number: int) -> dict[str, Any]:
    return {"status": "ok", "id": f"ticket-{number}"}


def bad(error: str | None, said: str = "no") -> dict[str, Any]:
    details = {} if error is None else {"details": {"error": error}}
    return {"status": "error", "message": said, **details}


def tickets(*found: object) -> Reply:
    return Reply(200, json.dumps({"data": list(found)}))


def error(status: int, code: str, said: str = "no") -> Reply:
    return Reply(status, json.dumps({"errors": [{"code": code, "message": said}]}))


def push(*tokens: str, **more: Any) -> PushMessage:
    made = message(Channel.PUSH, "one")
    assert isinstance(made, PushMessage)
    return replace(made, tokens=tokens, **more)


GONE = tickets(bad("DeviceNotRegistered"))


class TestExpo(HttpContract):
    dialogue = Dialogue(
        channel=Channel.PUSH,
        table={"name": "expo", "access_token_env": "EXPO_ACCESS_TOKEN"},
        environment={"EXPO_ACCESS_TOKEN": "an access token"},
        accepted=lambda n: tickets(ticket(n)),
        refused=GONE,
        transient=Reply(503, "later"),
        probe=Reply(200, '{"data":{}}'),
        errors={
            "gone": (GONE, "refused invalid_recipient hard_bounce"),
            "too big": (tickets(bad("MessageTooBig")), "refused invalid_content"),
            "too fast for a device": (tickets(bad("MessageRateExceeded")), "later rate_limited"),
            "Google's key": (tickets(bad("MismatchSenderId")), "refused rejected"),
            "Apple's key": (tickets(bad("InvalidCredentials")), "refused rejected"),
            "Expo's own trouble": (tickets(bad("ExpoError")), "later provider_error"),
            "an error of tomorrow": (tickets(bad("NewError")), "refused rejected"),
            "an error without a name": (tickets(bad(None)), "refused rejected"),
            "one ticket, not in a list": (
                Reply(200, json.dumps({"data": ticket(7)})),
                "accepted",
            ),
            "no ticket": (tickets(), "ambiguous"),
            "no JSON": (Reply(200, "<html>"), "ambiguous"),
            "too fast": (error(429, "TOO_MANY_REQUESTS"), "later rate_limited"),
            "two projects": (error(400, "PUSH_TOO_MANY_EXPERIENCE_IDS"), "refused rejected"),
            "no access": (error(403, "UNAUTHORIZED"), "blocked"),
            "errors inside a 200": (error(200, "TOO_MANY_REQUESTS"), "later rate_limited"),
        },
        needs="EXPO_ACCESS_TOKEN",
        recipient=token,
    )

    async def test_the_request_is_expos(self, subject: Subject, stub: Stub) -> None:
        made = push(token(1), priority=Priority.HIGH, ttl=60, badge=2, data={"screen": "inbox"})
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/--/api/v2/push/send")
        assert asked.headers["Authorization"] == "Bearer an access token"
        assert json.loads(asked.body) == [
            {
                "to": [token(1)],
                "title": made.title,
                "body": made.body,
                "sound": "default",
                "priority": "high",
                "data": {"screen": "inbox"},
                "badge": 2,
                "ttl": 60,
            }
        ]

    async def test_no_token_of_access_is_needed_where_the_project_asks_for_none(
        self, stub: Stub
    ) -> None:
        dialogue = replace(self.dialogue, table={"name": "expo"}, environment={})
        provider = dialogue.provider(stub.url)
        await provider.open()
        await call(provider, push(token(1)))
        await provider.close()
        assert "Authorization" not in stub.requests[-1].headers

    async def test_each_device_has_its_own_ticket(self, subject: Subject, stub: Stub) -> None:
        made = stub.message(tickets(bad("DeviceNotRegistered"), ticket(1), bad("MessageTooBig")))
        assert isinstance(made, PushMessage)
        made = replace(made, tokens=(*made.tokens, token(801), token(802)))
        outcome = await call(subject.provider, made)
        assert isinstance(outcome, Accepted)
        assert outcome.response.provider_message_id == "ticket-1"
        devices = json.loads(outcome.response.raw or "")
        assert [(one["n"], one["became"]) for one in devices] == [
            (0, "invalid_recipient"),
            (2, "invalid_content"),
            (1, "accepted"),
        ]

    async def test_a_request_is_for_a_hundred_devices_at_most(
        self, subject: Subject, stub: Stub
    ) -> None:
        await call(subject.provider, push(*map(token, range(1000, 1250))))
        sizes = [len(json.loads(asked.body)[0]["to"]) for asked in stub.requests]
        assert sorted(sizes) == [50, 100, 100]

    async def test_a_token_that_is_quoted_is_masked(self, subject: Subject, stub: Stub) -> None:
        quoted = tickets(bad("DeviceNotRegistered", f'"{token(1)}" is not a registered recipient'))
        made = stub.message(quoted)
        outcome = await call(subject.provider, made)
        assert token(1) == made.recipient
        assert token(1) not in repr(outcome.response)
        assert "is not a registered recipient" in (outcome.response.detail or "")

    @pytest.mark.parametrize(
        "made",
        [push(token(1), platform=Platform.FCM), push(token(1), body="x" * 4097)],
        ids=["another platform", "too big"],
    )
    async def test_what_is_not_for_it_is_refused_without_a_call(
        self, subject: Subject, stub: Stub, made: PushMessage
    ) -> None:
        assert describe(await call(subject.provider, made)) == "refused invalid_content"
        assert stub.requests == []
