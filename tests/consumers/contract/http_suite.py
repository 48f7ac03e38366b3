"""The contract over HTTP: an adapter against a stub that gives the provider's recorded answers.

A test module derives a class from `HttpContract` and gives it a `dialogue`: the provider's table,
its answer to a message that it accepts, and its documented errors with the outcome of each. The
stub distinguishes messages by the recipient, anywhere in a request.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

import pytest
from aiohttp import web

from consumers.registry import build_or_unconfigured
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused, TryLater
from consumers.sdk.provider import Provider
from schemas.messages import Message
from schemas.vocabulary import Channel
from tests.consumers.contract.samples import closed_port, message, only_provider, settings_with
from tests.consumers.contract.suite import Fate, ProviderContract, Subject, call

PUBLIC_URL = "https://comms.example.com"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the stub."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


NO_RESPONSE, HANG_UP = Reply(0, "silence"), Reply(0, "hang up")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request that the stub received."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """The requests and answers of a provider.

    Args:
        channel: of the provider.
        table: its options without `base_url`.
        environment: the variables with its secrets.
        accepted: the n-th answer to a message that is accepted, each with another id.
        refused: an answer that means `invalid_recipient`.
        transient: an answer that means a temporary failure.
        errors: recorded answers, each with the outcome as `describe` writes it.
        needs: the variable without which the provider must not be set up.
        probe: the answer to the probe.
        make: makes a message to a recipient, if it must not be a plain one.
        recipient: the n-th recipient.
    """

    channel: Channel
    table: Mapping[str, object]
    environment: Mapping[str, str]
    accepted: Callable[[int], Reply]
    refused: Reply
    transient: Reply
    errors: Mapping[str, tuple[Reply, str]]
    needs: str
    probe: Reply = Reply(200, "{}")
    make: Callable[[str], Message] | None = None
    recipient: Callable[[int], str] = lambda n: f"+1202555{n:04}"

    def message(self, number: int) -> Message:
        """A message to the n-th recipient."""
        to = self.recipient(number)
        return message(self.channel, to) if self.make is None else self.make(to)

    def provider(self, url: str, *, seconds: float = 30, **more: str) -> Provider[Any]:
        """The adapter, calling `url`."""
        environment = {**self.environment, "COMMS_PUBLIC_URL": PUBLIC_URL, **more}
        settings = settings_with(
            self.channel,
            {**self.table, "base_url": url},
            environment=environment,
            timeout_seconds=seconds,
        )
        return only_provider(settings, self.channel)


def describe(outcome: Outcome) -> str:
    """Return an outcome as a text: its type, reason, suppression reason and wait."""
    match outcome:
        case Accepted():
            return "accepted"
        case Refused(reason=reason, suppress=suppress):
            return f"refused {reason}" + (f" {suppress}" if suppress else "")
        case TryLater(reason=reason, after=after):
            return f"later {reason}" + (f" {after:g}" if after is not None else "")
        case AccountError():
            return "blocked"
        case Ambiguous():
            return "ambiguous"


class Stub:
    """The provider, on a free port of loopback, with a record of its requests."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.requests: list[Recorded] = []
        self._dialogue, self._taken, self._known = dialogue, 0, 0
        self._answers: dict[str, Reply | None] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=50 * 1024 * 1024)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        # Requests without an answer must not delay the end.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def message(self, reply: Reply | None) -> Message:
        """Make a message to a new recipient, answered with `reply`, or accepted if that is None."""
        self._known += 1
        made = self._dialogue.message(self._known)
        self._answers[self._dialogue.recipient(self._known).lstrip("+")] = reply
        return made

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = Recorded(
            request.method, request.path, request.query_string, dict(request.headers), body
        )
        self.requests.append(asked)
        reply = self._reply(asked)
        if reply is NO_RESPONSE:
            await asyncio.Event().wait()
        if reply is HANG_UP and request.transport is not None:
            request.transport.abort()
        return web.Response(status=reply.status or 500, text=reply.text, headers=reply.headers)

    def _reply(self, asked: Recorded) -> Reply:
        said = unquote_plus(f"{asked.path} {asked.query} {asked.body.decode('utf-8', 'replace')}")
        for recipient, reply in self._answers.items():
            if recipient in said:
                return reply if reply is not None else self._take()
        return self._dialogue.probe

    def _take(self) -> Reply:
        self._taken += 1
        return self._dialogue.accepted(self._taken)


class HttpContract(ProviderContract):
    """The suite, with the tests that HTTP adds to it."""

    dialogue: Dialogue

    @pytest.fixture
    async def stub(self) -> AsyncIterator[Stub]:
        made = Stub(self.dialogue)
        await made.start()
        yield made
        await made.stop()

    @pytest.fixture
    async def subject(self, stub: Stub) -> AsyncIterator[Subject]:
        dialogue = self.dialogue
        replies = {
            Fate.ACCEPTED: None,
            Fate.REFUSED: dialogue.refused,
            Fate.TRANSIENT: dialogue.transient,
            Fate.NO_RESPONSE: NO_RESPONSE,
        }
        provider, hasty = dialogue.provider(stub.url), dialogue.provider(stub.url, seconds=0.5)
        unreachable = dialogue.provider(f"http://127.0.0.1:{closed_port()}")
        for one in (provider, hasty, unreachable):
            await one.open()
        yield Subject(
            provider=provider,
            hasty=hasty,
            unreachable=unreachable,
            message=lambda fate: stub.message(replies[fate]),
            port=stub.port,
            secrets=tuple(dialogue.environment.values()),
        )
        for one in (provider, hasty, unreachable):
            await one.close()

    async def test_each_documented_error_comes_to_what_it_means(
        self, subject: Subject, stub: Stub
    ) -> None:
        errors = self.dialogue.errors
        found = {
            name: describe(await call(subject.provider, stub.message(reply)))
            for name, (reply, _) in errors.items()
        }
        assert found == {name: expected for name, (_, expected) in errors.items()}

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (302, "later provider_error"),
            (500, "later provider_error"),
            (503, "later provider_error 7"),
            (429, "later rate_limited 7"),
            (401, "blocked"),
        ],
    )
    async def test_an_answer_without_a_word_is_judged_by_its_status(
        self, subject: Subject, stub: Stub, status: int, expected: str
    ) -> None:
        headers = {"Location": stub.url} if status == 302 else {}
        headers |= {"Retry-After": "7"} if status in (429, 503) else {}
        reply = Reply(status, "<html>upstream</html>", headers)
        before = len(stub.requests)
        assert describe(await call(subject.provider, stub.message(reply))) == expected
        assert len(stub.requests) == before + 1

    async def test_a_connection_lost_after_the_request_is_ambiguous_and_not_repeated(
        self, subject: Subject, stub: Stub
    ) -> None:
        assert describe(await call(subject.provider, stub.message(HANG_UP))) == "ambiguous"
        assert len(stub.requests) == 1

    async def test_no_outcome_shows_a_secret(self, subject: Subject, stub: Stub) -> None:
        replies = [None, HANG_UP, *(reply for reply, _ in self.dialogue.errors.values())]
        for reply in replies:
            shown = repr(await call(subject.provider, stub.message(reply)))
            assert not any(secret in shown for secret in subject.secrets)

    def test_without_its_secret_it_says_what_is_not_set(self) -> None:
        dialogue = self.dialogue
        environment = {k: v for k, v in dialogue.environment.items() if k != dialogue.needs}
        settings = settings_with(dialogue.channel, dialogue.table, environment=environment)
        wanted = settings.channels[dialogue.channel].providers[0]
        _, missing = build_or_unconfigured(dialogue.channel, wanted, settings)
        assert missing is not None
        assert missing.startswith(f"{dialogue.needs}: not set")


class NamingContract(HttpContract):
    """The suite for a provider that returns an id for each message that it accepts.

    A success without an id is not the provider's own answer.
    """

    @pytest.mark.parametrize("text", ["<html>Sign in to this network</html>", "{}", "[1]", ""])
    async def test_a_success_that_names_no_message_is_ambiguous(
        self, subject: Subject, stub: Stub, text: str
    ) -> None:
        assert describe(await call(subject.provider, stub.message(Reply(200, text)))) == "ambiguous"
