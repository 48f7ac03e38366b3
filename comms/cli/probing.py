"""Providers asked from here: what `comms doctor` finds of those that no channel process speaks of.

Each is built from this machine's settings, and probed without sending anything.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from comms.platform.settings import ProviderSettings, Settings, SettingsError
from consumers.registry import build_or_unconfigured, has_probe
from schemas.vocabulary import Channel

SECONDS = 20.0  # for one provider; the longest that a call may take is the channel's


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of asking one provider.

    Args:
        problem: what is wrong, or None; said: what was found.
    """

    channel: Channel
    provider: str
    problem: str | None
    said: str


def probed(settings: Settings, channels: Sequence[Channel]) -> Iterator[Finding]:
    """A finding for each real provider of these channels; all are asked at once."""
    wanted = [
        (channel, provider)
        for channel in channels
        for provider in settings.channels[channel].providers
        if provider.type != "simulated"
    ]
    yield from asyncio.run(_all(settings, wanted))


async def _all(
    settings: Settings, wanted: Sequence[tuple[Channel, ProviderSettings]]
) -> list[Finding]:
    return list(await asyncio.gather(*(_one(settings, *each) for each in wanted)))


async def _one(settings: Settings, channel: Channel, wanted: ProviderSettings) -> Finding:
    try:
        problem = await _problem(settings, channel, wanted)
    except SettingsError as error:
        problem = str(error)
    if problem is not None:
        return Finding(channel, wanted.name, problem, problem)
    proved = has_probe(channel, wanted)
    said = "its account answers" if proved else "set up; its account cannot be probed"
    return Finding(channel, wanted.name, None, said)


async def _problem(settings: Settings, channel: Channel, wanted: ProviderSettings) -> str | None:
    provider, missing = build_or_unconfigured(channel, wanted, settings)
    if missing is not None:
        return missing
    await provider.open()
    try:
        async with asyncio.timeout(SECONDS):
            return await provider.probe()
    except TimeoutError:
        return f"no answer within {SECONDS:g} s"
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await provider.close()
