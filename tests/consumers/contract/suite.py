"""What every adapter must do: one suite, run on each adapter against a real server.

A test module derives a class from `ProviderContract` and gives it a `subject`: an adapter, and a
way to make its server accept, refuse, fail or not answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest

from consumers.sdk.outcomes import Accepted, Ambiguous, Outcome, Refused, TryLater
from consumers.sdk.provider import Attempt, Provider
from schemas.messages import Message
from schemas.vocabulary import Reason
from tests.consumers.contract.samples import until


class Fate(Enum):
    """What the server does with a message."""

    ACCEPTED = auto()
    REFUSED = auto()
    TRANSIENT = auto()
    NO_RESPONSE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An adapter under test.

    Args:
        provider: already open, with a time limit that is long enough for a busy machine.
        hasty: the same with a limit of half a second, for a server that does not answer.
        unreachable: the same, and its server does not exist.
        message: makes a message with a fate.
        port: of the server.
        secrets: texts that must never be shown.
    """

    provider: Provider[Any]
    hasty: Provider[Any]
    unreachable: Provider[Any]
    message: Callable[[Fate], Message]
    port: int
    secrets: tuple[str, ...]


def connections_to(port: int) -> int:
    """Connections of this machine to a port of loopback that have not been closed by our side."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [(line.split()[2], line.split()[3]) for line in lines]
    return sum(remote == f"0100007F:{port:04X}" and state == "01" for remote, state in ends)


async def call(provider: Provider[Any], message: Message) -> Outcome:
    """One call, as the first attempt."""
    return await provider.send(message, Attempt(message.id, 1))


class ProviderContract:
    """The suite."""

    async def test_a_message_that_is_taken_is_accepted_with_the_providers_id(
        self, subject: Subject
    ) -> None:
        outcome = await call(subject.provider, subject.message(Fate.ACCEPTED))
        assert isinstance(outcome, Accepted)
        assert outcome.response.provider_message_id
        assert outcome.response.raw

    async def test_a_message_that_is_refused_for_good_is_refused(self, subject: Subject) -> None:
        outcome = await call(subject.provider, subject.message(Fate.REFUSED))
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.INVALID_RECIPIENT
        assert outcome.response.code
        assert outcome.response.raw

    async def test_trouble_of_the_moment_is_for_later(self, subject: Subject) -> None:
        outcome = await call(subject.provider, subject.message(Fate.TRANSIENT))
        assert isinstance(outcome, TryLater)
        assert outcome.reason is Reason.PROVIDER_ERROR
        assert outcome.response.raw

    async def test_silence_after_the_request_is_ambiguous(self, subject: Subject) -> None:
        outcome = await call(subject.hasty, subject.message(Fate.NO_RESPONSE))
        assert isinstance(outcome, Ambiguous)
        assert outcome.response.detail

    async def test_nobody_listening_is_for_later(self, subject: Subject) -> None:
        outcome = await call(subject.unreachable, subject.message(Fate.ACCEPTED))
        assert isinstance(outcome, TryLater)
        assert outcome.reason in (Reason.PROVIDER_ERROR, Reason.TIMEOUT)

    async def test_many_calls_at_once_each_get_their_own_answer(self, subject: Subject) -> None:
        fates = [Fate.ACCEPTED, Fate.REFUSED, Fate.TRANSIENT] * 10
        messages = [subject.message(fate) for fate in fates]
        outcomes = await asyncio.gather(*(call(subject.provider, one) for one in messages))
        expected = {Fate.ACCEPTED: Accepted, Fate.REFUSED: Refused, Fate.TRANSIENT: TryLater}
        assert [type(one) for one in outcomes] == [expected[fate] for fate in fates]
        taken = [one.response.provider_message_id for one in outcomes if isinstance(one, Accepted)]
        assert len(set(taken)) == len(taken)

    async def test_it_works_on_after_a_cancelled_call(self, subject: Subject) -> None:
        calls = [
            asyncio.create_task(call(subject.provider, subject.message(Fate.NO_RESPONSE)))
            for _ in range(3)
        ]
        await until(lambda: connections_to(subject.port) >= 3)
        for one in calls:
            one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        outcome = await call(subject.provider, subject.message(Fate.ACCEPTED))
        assert isinstance(outcome, Accepted)

    async def test_a_probe_tells_a_reachable_server_from_one_that_is_not(
        self, subject: Subject
    ) -> None:
        assert await subject.provider.probe() is None
        assert await subject.unreachable.probe()

    async def test_close_releases_its_connections(self, subject: Subject) -> None:
        await call(subject.provider, subject.message(Fate.ACCEPTED))
        assert connections_to(subject.port) > 0
        await subject.provider.close()
        await until(lambda: connections_to(subject.port) == 0)

    async def test_nothing_secret_is_shown(self, subject: Subject) -> None:
        message = subject.message(Fate.ACCEPTED)
        shown = [repr(subject.provider), str(subject.provider), repr(message)]
        shown.append(repr(await call(subject.unreachable, message)))
        for text in shown:
            assert not any(secret in text for secret in (*subject.secrets, message.recipient))
