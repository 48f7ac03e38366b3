"""From settings to adapters: the one place that knows every kind of provider of every channel.

A channel's process calls `build_or_missing` for each provider it is configured with; the receipt
endpoint calls `receipt_parsers` once. A table that cannot work is a `SettingsError` at start; a
secret that is not set only keeps its own provider from being used.

A package outside this tree adds a kind with an entry point of the group `comms.providers`, named
`CHANNEL.KIND`, that leads to a `consumers.sdk.provider_type.ProviderType`. It is loaded when a
table asks for it.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

import structlog

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import MissingSecretError, ProviderSettings, Settings, SettingsError
from consumers import email, push, sms, voice
from consumers.sdk.capabilities import Capabilities
from consumers.sdk.options import Options
from consumers.sdk.provider import Provider
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipts import ReceiptParser
from consumers.sdk.unconfigured import MissingProvider, MissingReceipts
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

GROUP = "comms.providers"
PROVIDER_TYPES: Mapping[Channel, Mapping[str, ProviderType]] = MappingProxyType(
    {
        Channel.SMS: sms.PROVIDER_TYPES,
        Channel.EMAIL: email.PROVIDER_TYPES,
        Channel.PUSH: push.PROVIDER_TYPES,
        Channel.VOICE: voice.PROVIDER_TYPES,
    }
)


def build(channel: Channel, provider: ProviderSettings, settings: Settings) -> Provider[Any]:
    """The adapter of one configured provider, not yet open.

    Raises:
        SettingsError: its kind is unknown for the channel, or its table is wrong;
            MissingSecretError where all it lacks is a secret.
    """
    return _kind(channel, provider).build(_setup(channel, provider, settings))


def build_or_missing(
    channel: Channel, provider: ProviderSettings, settings: Settings
) -> tuple[Provider[Any], str | None]:
    """The same, with what keeps it from being used: a secret that is not set, or None.

    Raises:
        SettingsError: its kind is unknown for the channel, or its table is wrong.
    """
    try:
        return build(channel, provider, settings), None
    except MissingSecretError as error:
        return MissingProvider(provider.name), str(error)


def capabilities_of(
    channel: Channel, provider: ProviderSettings, settings: Settings
) -> Capabilities:
    """Which messages a configured provider takes.

    Raises:
        SettingsError: its kind is unknown for the channel, or its table is wrong.
    """
    kind = _kind(channel, provider)
    return Capabilities(kind.modes(_setup(channel, provider, settings)), kind.platform)


def probes(channel: Channel, provider: ProviderSettings) -> bool:
    """Whether a configured provider's probe proves its account.

    Raises:
        SettingsError: its kind is unknown for the channel.
    """
    return _kind(channel, provider).probes


def senders_of_receipts(channel: Channel, configured: Iterable[ProviderSettings]) -> list[str]:
    """The names of those among a channel's providers that owe a receipt for each message.

    Raises:
        SettingsError: a provider's kind is unknown for the channel.
    """
    return [p.name for p in configured if _kind(channel, p).owes_receipts]


def knows_repeats(channel: Channel, provider: ProviderSettings) -> bool:
    """Whether a configured provider knows a call that is made again from the first time.

    Raises:
        SettingsError: its kind is unknown for the channel.
    """
    return _kind(channel, provider).knows_repeats


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
                try:
                    parser = receipts(setup, clock)
                except MissingSecretError as error:
                    log.warning("receipts.setup_needed", provider=provider.name, problem=str(error))
                    parser = MissingReceipts(str(error))
                found[channel, provider.name] = parser
    return MappingProxyType(found)


def _kind(channel: Channel, provider: ProviderSettings) -> ProviderType:
    where = f"{channel}.providers[{provider.name}].type"
    if provider.kind in PROVIDER_TYPES[channel]:
        return PROVIDER_TYPES[channel][provider.kind]
    for entry in entry_points(group=GROUP, name=f"{channel}.{provider.kind}"):
        return _loaded(entry, where)
    added = {e.name.partition(".")[2] for e in entry_points(group=GROUP) if _is_of(e, channel)}
    known = ", ".join(sorted({*PROVIDER_TYPES[channel], *added}))
    raise SettingsError(where, f"no provider {provider.kind!r} for {channel}; known: {known}")


def _is_of(entry: EntryPoint, channel: Channel) -> bool:
    return entry.name.partition(".")[0] == channel


def _loaded(entry: EntryPoint, where: str) -> ProviderType:
    try:
        kind = entry.load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(where, f"{entry.value} cannot be loaded: {error}") from error
    if not isinstance(kind, ProviderType):
        raise SettingsError(where, f"{entry.value} is not a consumers.sdk.provider_type.Kind")
    return kind


def _setup(channel: Channel, provider: ProviderSettings, settings: Settings) -> ProviderContext:
    where = f"{channel}.providers[{provider.name}]"
    configured = settings.channels[channel]
    return ProviderContext(
        channel=channel,
        name=provider.name,
        options=Options(provider.options, where=where, settings=settings),
        timeout_seconds=configured.call_timeout_seconds,
        connections=configured.concurrency,
        settings=settings,
    )
