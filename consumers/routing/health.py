"""Remembers what a channel process has seen of its providers: the evidence behind `/v1/channels`.

The pipeline records every outcome, and the reporter every probe. The reporter writes what is
remembered here into `consumers.worker`, where the audit service reads it.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from comms.platform.masking import mask
from consumers.sdk.outcomes import Accepted, AccountError, Outcome, Refused, label_of
from schemas.events import ProviderResponse

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ProviderRecord:
    """What was last seen of one provider.

    Args:
        last_success: when it last accepted a message.
        last_error: the last problem of a call, masked, and `last_error_at` its time.
        probe_problem: what the last probe found wrong, or None.
        probed_at: when a probe last succeeded.
        account_problem: the last account error, until the provider accepts or refuses a message.
    """

    last_success: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    probe_problem: str | None = None
    probed_at: datetime | None = None
    account_problem: str | None = None


class ProviderHealth:
    """The records of a channel's providers, by name."""

    def __init__(self) -> None:
        self._records: dict[str, ProviderRecord] = {}

    def get(self, provider: str) -> ProviderRecord:
        """Return the record of a provider."""
        return self._records.setdefault(provider, ProviderRecord())

    def record_probe(self, provider: str, problem: str | None, *, at: datetime) -> None:
        """Record a probe.

        Args:
            problem: what it found wrong; None if it succeeded.
        """
        record = self.get(provider)
        record.probe_problem = problem
        if problem is None:
            record.probed_at = at

    def record_outcome(self, provider: str, outcome: Outcome, *, at: datetime) -> None:
        """Record the outcome of a call."""
        record = self.get(provider)
        if isinstance(outcome, Accepted):
            record.last_success = at
        if isinstance(outcome, Accepted | Refused):  # to refuse one message is a valid answer
            record.probe_problem = None
            record.account_problem = None
        else:
            response = outcome.response
            record.last_error = mask(response.detail or response.code or label_of(outcome))
            record.last_error_at = at
        if isinstance(outcome, AccountError):
            self._record_account_error(provider, record, mask_response(outcome.response))

    def _record_account_error(self, provider: str, record: ProviderRecord, problem: str) -> None:
        """Log an account error, unless it is the one that is known already."""
        if record.account_problem != problem:
            record.account_problem = problem
            log.error("provider.account_fault", provider=provider, problem=problem)


def mask_response(response: ProviderResponse) -> str:
    """Return a provider's detail and code as operators and logs may see them.

    The detail may quote a number or an address, so those are masked.
    """
    detail = mask(response.detail or "no detail")
    return detail if response.code is None else f"{detail} ({response.code})"
