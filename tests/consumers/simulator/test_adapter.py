"""The simulated provider on every channel: the contract, and every recipient with a meaning."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused, TryLater
from consumers.sdk.provider import Provider
from consumers.simulator.server import SimulatorServer
from schemas.vocabulary import Channel, Reason
from tests.consumers.contract.samples import (
    SECRET,
    closed_port,
    message,
    only_provider,
    settings_with,
)
from tests.consumers.contract.suite import Fate, ProviderContract, Subject, call

_WORDS = {
    Fate.ACCEPTED: "delivered",
    Fate.REFUSED: "invalid",
    Fate.TRANSIENT: "exhausted",
    Fate.NO_RESPONSE: "ambiguous",
}
_IN_ORDER = (
    *("delivered", "invalid", "temporary", "exhausted", "no-receipt", "ambiguous", "slow"),
    *("undelivered", "limited"),
)
_NUMBERS = {word: f"+1202555010{n}" for n, word in enumerate(_IN_ORDER)}


def recipient(channel: Channel, word: str) -> str:
    """How a magic word is written as a channel's recipient."""
    match channel:
        case Channel.SMS | Channel.VOICE:
            return _NUMBERS[word]
        case Channel.EMAIL:
            return f"{word}@simulator.example.com"
        case Channel.PUSH:
            return f"simulator:{word}"


@pytest.fixture(params=Channel, ids=str)
async def subject(
    request: pytest.FixtureRequest, simulator: SimulatorServer
) -> AsyncIterator[Subject]:
    channel: Channel = request.param

    def adapter(url: str, seconds: float) -> Provider[Any]:
        table = {"name": "simulated", "url": url}
        return only_provider(settings_with(channel, table, timeout_seconds=seconds), channel)

    provider, hasty = adapter(simulator.url, 30), adapter(simulator.url, 1.5)
    unreachable = adapter(f"http://127.0.0.1:{closed_port()}", 30)
    for one in (provider, hasty, unreachable):
        await one.open()
    yield Subject(
        provider=provider,
        hasty=hasty,
        unreachable=unreachable,
        message=lambda fate: message(channel, recipient(channel, _WORDS[fate])),
        port=urlsplit(simulator.url).port or 0,
        secrets=(SECRET.value,),
    )
    for one in (provider, hasty, unreachable):
        await one.close()


class TestSimulated(ProviderContract):
    """The contract, on all four channels."""


def _told(outcome: Outcome) -> str:
    match outcome:
        case TryLater() as later:
            return f"{later.reason} {later.after or ''}".strip()
        case Refused() as refused:
            return str(refused.reason)
        case Accepted():
            return "accepted"
        case Ambiguous():
            return "ambiguous"
        case AccountError():
            return "blocked"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("delivered", ["accepted"]),
        ("invalid", ["invalid_recipient"]),
        ("temporary", ["provider_error", "provider_error", "accepted"]),
        ("exhausted", ["provider_error"] * 4),
        ("no-receipt", ["accepted"]),
        ("ambiguous", ["ambiguous"]),
        ("undelivered", ["accepted"]),
        ("limited", ["rate_limited 2.0", "accepted"]),
        ("slow", ["ambiguous"]),  # five seconds are more than the hasty adapter waits
    ],
)
async def test_every_magic_recipient_does_what_it_says(
    subject: Subject, word: str, told: list[str]
) -> None:
    channel = subject.message(Fate.ACCEPTED).channel
    one = message(channel, recipient(channel, word))
    provider = subject.hasty if told == ["ambiguous"] else subject.provider
    assert [_told(await call(provider, one)) for _ in told] == told


async def test_an_address_may_carry_a_display_name(simulator: SimulatorServer) -> None:
    settings = settings_with(Channel.EMAIL, {"name": "simulated", "url": simulator.url})
    provider = only_provider(settings, Channel.EMAIL)
    await provider.open()
    one = message(Channel.EMAIL, "Nobody <Invalid@simulator.example.com>")
    outcome = await call(provider, one)
    await provider.close()
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.INVALID_RECIPIENT
