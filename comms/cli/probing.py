"""Probes of providers from this machine, for channels without a running process.

`comms doctor` calls `probe_providers`. Each provider is built from this machine's settings and
probed without sending anything.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from comms.platform.settings import ProviderSettings, Settings, SettingsError
from consumers.registry import build_or_unconfigured, has_probe
from schemas.vocabulary import Channel

PROBE_SECONDS = 20.0  # for one provider; a single call has the channel's own limit
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of probing one provider.

    Args:
        problem: what is wrong, or None.
        finding: the problem, or what the probe showed.
    """

    channel: Channel
    provider: str
    problem: str | None
    finding: str


def probe_providers(settings: Settings, channels: Sequence[Channel]) -> Iterator[ProbeResult]:
    """Probe each real provider of these channels; all of them at the same time."""
    targets = [
        (channel, provider)
        for channel in channels
        for provider in settings.channels[channel].providers
        if provider.type != "simulated"
    ]
    yield from asyncio.run(_probe_all(settings, targets))


async def _probe_all(
    settings: Settings, targets: Sequence[tuple[Channel, ProviderSettings]]
) -> list[ProbeResult]:
    return list(await asyncio.gather(*(_probe(settings, *target) for target in targets)))


async def _probe(settings: Settings, channel: Channel, provider: ProviderSettings) -> ProbeResult:
    try:
        problem = await _find_problem(settings, channel, provider)
    except SettingsError as error:
        problem = str(error)
    if problem is not None:
        return ProbeResult(channel, provider.name, problem, problem)
    can_probe = has_probe(channel, provider)
    finding = "its account answers" if can_probe else "set up; its account cannot be probed"
    return ProbeResult(channel, provider.name, None, finding)


async def _find_problem(
    settings: Settings, channel: Channel, table: ProviderSettings
) -> str | None:
    provider, missing = build_or_unconfigured(channel, table, settings)
    if missing is not None:
        return missing
    await provider.open()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await provider.probe()
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} s"
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await provider.close()
