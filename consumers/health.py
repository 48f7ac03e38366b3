"""What a channel process has seen of its providers: the evidence behind `/v1/channels`.

The dispatcher reports every outcome; the reporter writes what is remembered here into
`consumers.worker`, where the audit service reads it.
"""

from dataclasses import dataclass
from datetime import datetime

from consumers.outcomes import Accepted, Outcome, Refused


@dataclass(slots=True)
class Seen:
    """The last good and bad word of one provider.

    Args:
        problem: what its last probe found wrong, or None.
    """

    last_success: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    problem: str | None = None


class ProviderHealth:
    """Remembers, for each provider by name, what it last said."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def of(self, provider: str) -> Seen:
        """What is known of a provider."""
        return self._seen.setdefault(provider, Seen())

    def observe(self, provider: str, outcome: Outcome, *, at: datetime) -> None:
        """A call of the provider ended."""
        seen = self.of(provider)
        if isinstance(outcome, Accepted | Refused):  # a refusal of one message is a good answer
            seen.last_success, seen.problem = at, None
        else:
            words = outcome.words
            seen.last_error = words.detail or words.code or type(outcome).__name__.lower()
            seen.last_error_at = at
