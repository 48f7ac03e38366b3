"""What a channel process has seen of its providers: the evidence behind `/v1/channels`.

The dispatcher reports every outcome; the reporter writes what is remembered here into
`consumers.worker`, where the audit service reads it.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from comms.platform.masking import masked
from consumers.sdk.outcomes import Accepted, AccountError, Outcome, Refused, label_of
from schemas.events import ProviderResponse

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Seen:
    """The last good and bad word of one provider.

    Args:
        last_success: when it last took a message.
        problem: what its last probe found wrong, or None; probed_at: when one last succeeded.
        fault: what it last said against the account, until it takes something again.
    """

    last_success: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    problem: str | None = None
    fault: str | None = None
    probed_at: datetime | None = None


class ProviderHealth:
    """Remembers, for each provider by name, what it last said."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def of(self, provider: str) -> Seen:
        """What is known of a provider."""
        return self._seen.setdefault(provider, Seen())

    def probed(self, provider: str, problem: str | None, *, at: datetime) -> None:
        """A probe of the provider ended: well, or with a problem."""
        seen = self.of(provider)
        seen.problem = problem
        if problem is None:
            seen.probed_at = at

    def observe(self, provider: str, outcome: Outcome, *, at: datetime) -> None:
        """A call of the provider ended."""
        seen = self.of(provider)
        if isinstance(outcome, Accepted):
            seen.last_success = at
        if isinstance(outcome, Accepted | Refused):  # a refusal of one message is a good answer
            seen.problem, seen.fault = None, None
        else:
            response = outcome.response
            said = response.detail or response.code or label_of(outcome)
            seen.last_error = masked(said)
            seen.last_error_at = at
        if isinstance(outcome, AccountError) and seen.fault != (
            fault := without_recipients(outcome.response)
        ):
            seen.fault = fault
            log.error("provider.account_fault", provider=provider, problem=fault)


def without_recipients(response: ProviderResponse) -> str:
    """A provider's sentence and code as operators and logs may see it: it may quote a number or an
    address."""
    said = masked(response.detail or "no words")
    return said if response.code is None else f"{said} ({response.code})"
