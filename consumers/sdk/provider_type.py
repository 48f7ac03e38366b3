"""Provider types: what a channel package declares, and what the builders of a type receive.

`consumers.registry` looks up the type of a configured provider in its channel's `PROVIDER_TYPES`,
checks the provider's table against `ProviderType.options`, and calls the builders with a
`ProviderContext`. To add a provider, add an entry there, or an entry point in another package
(docs/adding-a-provider.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from comms.platform.clock import Clock
from comms.platform.settings import Settings, SettingsError
from consumers.sdk.capabilities import LIVE, LIVE_AND_TEST
from consumers.sdk.options import ProviderOptions, is_loopback
from consumers.sdk.provider import Provider
from consumers.sdk.receipts import ReceiptParser
from schemas.vocabulary import Channel, Mode, Platform

OptionsT = TypeVar("OptionsT", bound=ProviderOptions)
OptionsT_co = TypeVar("OptionsT_co", bound=ProviderOptions, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext(Generic[OptionsT_co]):
    """What the builders of a provider receive.

    Args:
        channel: the channel of the provider.
        name: the provider's name in settings, events and metrics.
        options: the provider's table, checked.
        timeout_seconds: the channel's limit of a call.
        connections: the maximum number of simultaneous calls.
        settings: of the process.
    """

    channel: Channel
    name: str
    options: OptionsT_co
    timeout_seconds: float
    connections: int
    settings: Settings

    @property
    def key(self) -> str:
        """The full path of the provider's table, such as `sms.providers[twilio]`."""
        return provider_key(self.channel, self.name)

    @property
    def receipts_url(self) -> str:
        """The public address to which the provider sends receipts."""
        return f"{self.settings.public_url}/receipts/{self.channel}/{self.name}"

    def is_reachable_from(self, base_url: str) -> bool:
        """Whether a provider at this address can call our receipts' address.

        A public provider cannot call an address of this machine, and may refuse it.
        """
        is_local = is_loopback(urlsplit(self.receipts_url).hostname)
        return not is_local or is_loopback(urlsplit(base_url).hostname)

    def wrong(self, option: str, problem: str) -> SettingsError:
        """The error for an option that the builder cannot work with, such as an unreadable key.

        The provider is then `setup_needed`, and the message is shown as the evidence.
        """
        return SettingsError(f"{self.key}.{option}", problem)


def provider_key(channel: Channel, name: str) -> str:
    """The full path of a provider's table."""
    return f"{channel}.providers[{name}]"


def live_only(context: ProviderContext[ProviderOptions]) -> frozenset[Mode]:
    """The modes of a provider type without a test mode."""
    del context
    return LIVE


def live_and_test(context: ProviderContext[ProviderOptions]) -> frozenset[Mode]:
    """The modes of a provider type with a test mode that needs no options of its own."""
    del context
    return LIVE_AND_TEST


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderType(Generic[OptionsT]):
    """How the providers of one type are made, and what they can do.

    A builder raises SettingsError (`ProviderContext.wrong`) for options that it cannot work with,
    and lets MissingSecretError pass.

    Args:
        options: the model of the provider's table.
        build: makes the adapter.
        receipts: makes the parser of the receipts that the provider posts; None if it posts none.
        reports_every_message: the provider reports the fate of every message in another way
            (`consumers.sdk.receipt_stream`), so that a missing report is worth an event.
        has_probe: a probe checks the account, as far as the provider allows it.
        has_idempotency_key: the adapter passes `Attempt.idempotency_key` on, so that the provider
            carries out a repeated call only once.
        platform: the push platform of the device tokens that the provider accepts; None for all.
        modes: the modes of messages that the provider accepts. One that accepts `Mode.TEST`
            delivers nothing for such a message.
    """

    options: type[OptionsT]
    build: Callable[[ProviderContext[OptionsT]], Provider[Any]]
    receipts: Callable[[ProviderContext[OptionsT], Clock], ReceiptParser] | None = None
    reports_every_message: bool = False
    has_probe: bool = True
    has_idempotency_key: bool = False
    platform: Platform | None = None
    modes: Callable[[ProviderContext[OptionsT]], frozenset[Mode]] = live_only

    @property
    def expects_receipts(self) -> bool:
        """Whether silence after `sent` means that something went wrong. If not, `sent` is final."""
        return self.receipts is not None or self.reports_every_message
