"""What a call of a provider can come to: four values, and one place that acts on them.

Every adapter returns one of these and raises nothing; `consumers.settlement` turns each into a row
of the ledger and an event.

    Accepted      the provider took it
    Refused       for good: the message is failed
    TryLater      for the moment: nothing was sent, another attempt follows
    Ambiguous     the request left and its answer was lost: nobody knows
"""

from dataclasses import dataclass

from schemas.events import SILENCE, ProviderWords
from schemas.vocabulary import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider took the message; `words.provider_message_id` is its id there."""

    words: ProviderWords = SILENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider will never take this message.

    Args:
        reason: `rejected`, `invalid_recipient` or `invalid_content`.
    """

    reason: Reason
    words: ProviderWords = SILENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class TryLater:
    """Nothing was sent, and another attempt may succeed.

    Args:
        reason: `provider_error`, `rate_limited` or `timeout` (no connection; nothing was written).
        after: seconds the provider asked us to wait (Retry-After), or None.
    """

    reason: Reason
    after: float | None = None
    words: ProviderWords = SILENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """The request was written and no answer came: it may or may not have been carried out."""

    words: ProviderWords = SILENCE


Outcome = Accepted | Refused | TryLater | Ambiguous
