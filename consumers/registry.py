"""From settings to adapters: the only place that knows the provider types of every channel.

A channel's process calls `build_or_unconfigured` for each provider of its settings. The receipt
endpoint calls `receipt_parsers` once. An unknown provider type or an unknown option stops the
process. A wrong value, or a secret that is not set, only keeps its own provider from being used.

A package outside this tree adds a provider type with an entry point of the group `comms.providers`,
named `CHANNEL.TYPE`, that leads to a `consumers.sdk.ProviderType`. It is loaded when a table asks
for it.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

import structlog

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import (
    ProviderSettings,
    Settings,
    SettingsError,
    UnknownSettingError,
)
from consumers import email, push, sms, voice
from consumers.sdk.capabilities import ANY_MODE, Capabilities
from consumers.sdk.options import read_options
from consumers.sdk.provider import Provider
from consumers.sdk.provider_type import ProviderContext, ProviderType, provider_key
from consumers.sdk.receipts import ReceiptParser
from consumers.sdk.unconfigured import UnconfiguredProvider, UnconfiguredReceipts
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

GROUP = "comms.providers"
PROVIDER_TYPES: Mapping[Channel, Mapping[str, ProviderType[Any]]] = MappingProxyType(
    {
        Channel.SMS: sms.PROVIDER_TYPES,
        Channel.EMAIL: email.PROVIDER_TYPES,
        Channel.PUSH: push.PROVIDER_TYPES,
        Channel.VOICE: voice.PROVIDER_TYPES,
    }
)


def build(channel: Channel, provider: ProviderSettings, settings: Settings) -> Provider[Any]:
    """Build the adapter of a configured provider; it is not yet open.

    Raises:
        UnknownSettingError: its type is unknown for the channel, or it has an unknown option.
        SettingsError: an option is missing or wrong.
        MissingSecretError: a secret is not set.
    """
    provider_type = _type_of(channel, provider)
    return provider_type.build(_context(provider_type, channel, provider, settings))


def build_or_unconfigured(
    channel: Channel, provider: ProviderSettings, settings: Settings
) -> tuple[Provider[Any], str | None]:
    """Build the adapter of a configured provider, or a placeholder if it cannot be built.

    Returns:
        The adapter and None; or a placeholder and the problem: a wrong option or a missing secret.

    Raises:
        UnknownSettingError: its type is unknown for the channel, or it has an unknown option.
    """
    try:
        return build(channel, provider, settings), None
    except UnknownSettingError:
        raise
    except SettingsError as error:
        return UnconfiguredProvider(provider.name), str(error)


def capabilities_of(
    channel: Channel, provider: ProviderSettings, settings: Settings
) -> Capabilities:
    """Return which messages a configured provider accepts.

    If its options are wrong, its modes are not known. Any mode is assumed then, so that messages
    wait until the options are right.

    Raises:
        UnknownSettingError: its type is unknown for the channel, or it has an unknown option.
    """
    provider_type = _type_of(channel, provider)
    try:
        modes = provider_type.modes(_context(provider_type, channel, provider, settings))
    except UnknownSettingError:
        raise
    except SettingsError:  # reported when the provider is built
        modes = ANY_MODE
    return Capabilities(modes, provider_type.platform)


def has_probe(channel: Channel, provider: ProviderSettings) -> bool:
    """Return whether a probe checks the account of a configured provider.

    Raises:
        UnknownSettingError: its type is unknown for the channel.
    """
    return _type_of(channel, provider).has_probe


def providers_with_receipts(channel: Channel, providers: Iterable[ProviderSettings]) -> list[str]:
    """Return the names of the providers that report on every message.

    Raises:
        UnknownSettingError: a provider's type is unknown for the channel.
    """
    return [p.name for p in providers if _type_of(channel, p).expects_receipts]


def has_idempotency_key(channel: Channel, provider: ProviderSettings) -> bool:
    """Return whether a configured provider carries out a repeated call only once.

    Raises:
        UnknownSettingError: its type is unknown for the channel.
    """
    return _type_of(channel, provider).has_idempotency_key


def receipt_parsers(
    settings: Settings, clock: Clock = utc_now
) -> Mapping[tuple[Channel, str], ReceiptParser]:
    """Build the receipt parsers of all configured providers that post receipts.

    Returns:
        The parsers by channel and provider. The place of one that cannot be built, because of a
        wrong option or a missing secret, is taken by one that asks for the receipts again later.

    Raises:
        UnknownSettingError: a provider's type is unknown, or it has an unknown option.
    """
    parsers = {
        (channel, provider.name): _receipt_parser(channel, provider, settings, clock)
        for channel, configured in settings.channels.items()
        for provider in configured.providers
    }
    return MappingProxyType({key: parser for key, parser in parsers.items() if parser is not None})


def _receipt_parser(
    channel: Channel, provider: ProviderSettings, settings: Settings, clock: Clock
) -> ReceiptParser | None:
    provider_type = _type_of(channel, provider)
    try:
        context = _context(provider_type, channel, provider, settings)
        return provider_type.receipts(context, clock) if provider_type.receipts else None
    except UnknownSettingError:
        raise
    except SettingsError as error:
        if provider_type.receipts is None:
            return None
        log.warning("receipts.setup_needed", provider=provider.name, problem=str(error))
        return UnconfiguredReceipts(str(error))


def _context(
    provider_type: ProviderType[Any],
    channel: Channel,
    provider: ProviderSettings,
    settings: Settings,
) -> ProviderContext[Any]:
    configured = settings.channels[channel]
    return ProviderContext(
        channel=channel,
        name=provider.name,
        options=read_options(
            provider_type.options,
            provider.options,
            key=provider_key(channel, provider.name),
            environment=settings.environment,
            call_timeout_seconds=configured.call_timeout_seconds,
        ),
        timeout_seconds=configured.call_timeout_seconds,
        connections=configured.concurrency,
        settings=settings,
    )


def _type_of(channel: Channel, provider: ProviderSettings) -> ProviderType[Any]:
    key = f"{provider_key(channel, provider.name)}.type"
    if provider.type in PROVIDER_TYPES[channel]:
        return PROVIDER_TYPES[channel][provider.type]
    for entry in entry_points(group=GROUP, name=f"{channel}.{provider.type}"):
        return _load(entry, key)
    names = (entry.name.partition(".") for entry in entry_points(group=GROUP))
    added = {name for prefix, _, name in names if prefix == channel}
    known = ", ".join(sorted({*PROVIDER_TYPES[channel], *added}))
    raise UnknownSettingError(key, f"no provider {provider.type!r} for {channel}; known: {known}")


def _load(entry: EntryPoint, key: str) -> ProviderType[Any]:
    try:
        provider_type = entry.load()
    except (ImportError, AttributeError) as error:
        raise UnknownSettingError(key, f"{entry.value} cannot be loaded: {error}") from error
    if not isinstance(provider_type, ProviderType):
        raise UnknownSettingError(key, f"{entry.value} is not a consumers.sdk.ProviderType")
    return provider_type
