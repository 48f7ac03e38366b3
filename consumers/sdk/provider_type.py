"""Kinds of providers: what a channel package declares, and what a builder is given.

`consumers.registry` looks a configured provider's kind up in its channel's `PROVIDER_TYPES` and
calls the builder with a `ProviderContext`. Adding a provider is adding an entry there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comms.platform.clock import Clock
from comms.platform.settings import Settings
from consumers.sdk.capabilities import LIVE, LIVE_AND_TEST
from consumers.sdk.options import Options
from consumers.sdk.provider import Provider
from consumers.sdk.receipts import ReceiptParser
from schemas.vocabulary import Channel, Mode, Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext:
    """What a builder may know: the provider's own table first, then its channel's limits.

    Args:
        name: the provider's; timeout_seconds: of one call; connections: calls made at once.
    """

    channel: Channel
    name: str
    options: Options
    timeout_seconds: float
    connections: int
    settings: Settings

    @property
    def receipts_url(self) -> str:
        """Where the provider shall send receipts, as it is reached from outside."""
        return f"{self.settings.public_url}/receipts/{self.channel}/{self.name}"


def live_only(setup: ProviderContext) -> frozenset[Mode]:
    """Of a kind without a test mode."""
    del setup
    return LIVE


def live_and_test(setup: ProviderContext) -> frozenset[Mode]:
    """Of a kind whose test mode needs no setting up: a message says that it is a test."""
    del setup
    return LIVE_AND_TEST


@dataclass(frozen=True, slots=True)
class ProviderType:
    """How providers of one kind are made.

    Args:
        build: an adapter; raises SettingsError for a table it cannot work with. receipts: what
        reads the receipts that it posts; None where it posts none. confirms: it says what became of
        every message in another way (`consumers.sdk.receipt_stream`), so
            that silence is worth telling.
        probes: whether a probe proves the account, as far as the provider allows it.
        knows_repeats: it takes `Attempt.idempotency_key`, so that a call which is made twice is
            carried out once.
        platform: whose device tokens it takes, on the push channel; None for anybody's.
        modes: how the messages may be meant that a provider so set up takes. One that takes
            `Mode.TEST` calls for such a message in a way that delivers nothing.
    """

    build: Callable[[ProviderContext], Provider[Any]]
    receipts: Callable[[ProviderContext, Clock], ReceiptParser] | None = None
    confirms: bool = False
    probes: bool = True
    knows_repeats: bool = False
    platform: Platform | None = None
    modes: Callable[[ProviderContext], frozenset[Mode]] = live_only

    @property
    def owes_receipts(self) -> bool:
        """Whether a message of which nothing more is heard is one that something went wrong with;
        else `sent` is its end."""
        return self.receipts is not None or self.confirms
