"""From settings to adapters: the one place that knows every kind of provider of every channel.

A channel's process calls `build` for each provider it is configured with; the receipt endpoint
calls `receipt_parsers` once. A table that cannot work is a `SettingsError` at start.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from comms.clock import Clock, utc_now
from comms.settings import ProviderSettings, Settings, SettingsError
from consumers import email, push, sms, voice
from consumers.kinds import Kind, Setup
from consumers.options import Options
from consumers.provider import Provider
from consumers.webhook import ReceiptParser
from schemas.vocabulary import Channel

KINDS: Mapping[Channel, Mapping[str, Kind]] = MappingProxyType(
    {
        Channel.SMS: sms.KINDS,
        Channel.EMAIL: email.KINDS,
        Channel.PUSH: push.KINDS,
        Channel.VOICE: voice.KINDS,
    }
)


def build(channel: Channel, provider: ProviderSettings, settings: Settings) -> Provider[Any]:
    """The adapter of one configured provider, not yet open.

    Raises:
        SettingsError: its kind is unknown for the channel, or its table is wrong.
    """
    return _kind(channel, provider).build(_setup(channel, provider, settings))


def senders_of_receipts(channel: Channel, configured: Iterable[ProviderSettings]) -> list[str]:
    """The names of those among a channel's providers that send receipts.

    Raises:
        SettingsError: a provider's kind is unknown for the channel.
    """
    return [p.name for p in configured if _kind(channel, p).receipts is not None]


def receipt_parsers(
    settings: Settings, clock: Clock = utc_now
) -> Mapping[tuple[Channel, str], ReceiptParser]:
    """What reads the receipts of every configured provider that sends any, by channel and name.

    Raises:
        SettingsError: a provider's kind is unknown, or its table is wrong.
    """
    found: dict[tuple[Channel, str], ReceiptParser] = {}
    for channel, configured in settings.channels.items():
        for provider in configured.providers:
            receipts = _kind(channel, provider).receipts
            if receipts is not None:
                setup = _setup(channel, provider, settings)
                found[channel, provider.name] = receipts(setup, clock)
    return MappingProxyType(found)


def _kind(channel: Channel, provider: ProviderSettings) -> Kind:
    kinds = KINDS[channel]
    if provider.kind not in kinds:
        raise SettingsError(
            f"{channel}.providers[{provider.name}].type",
            f"no provider {provider.kind!r} for {channel}; known: {', '.join(sorted(kinds))}",
        )
    return kinds[provider.kind]


def _setup(channel: Channel, provider: ProviderSettings, settings: Settings) -> Setup:
    where = f"{channel}.providers[{provider.name}]"
    configured = settings.channels[channel]
    return Setup(
        channel=channel,
        name=provider.name,
        options=Options(provider.options, where=where, settings=settings),
        timeout_seconds=configured.call_timeout_seconds,
        connections=configured.concurrency,
        settings=settings,
    )
