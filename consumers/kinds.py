"""Kinds of providers: what a channel package declares, and what a builder is given.

`consumers.providers` looks a configured provider's kind up in its channel's `KINDS` and calls the
builder with a `Setup`. Adding a provider is adding an entry there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comms.clock import Clock
from comms.settings import Settings
from consumers.options import Options
from consumers.provider import Provider
from consumers.webhook import ReceiptParser
from schemas.vocabulary import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
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


@dataclass(frozen=True, slots=True)
class Kind:
    """How providers of one kind are made.

    Args:
        build: an adapter; raises SettingsError for a table it cannot work with.
        receipts: what reads its receipts; None where it sends none.
        knows_repeats: it takes `Attempt.idempotency_key`, so that a call which is made twice is
            carried out once.
    """

    build: Callable[[Setup], Provider[Any]]
    receipts: Callable[[Setup, Clock], ReceiptParser] | None = None
    knows_repeats: bool = False
