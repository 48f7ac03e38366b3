"""The meanings of providers' error codes: one table in each adapter's module, applied here.

An adapter makes a `Classifier` from its table and passes it every answer. A receipt parser passes
it the codes of receipts. If the table does not list a code, the HTTP status decides, the code is
counted in `comms_unknown_codes_total`, and it is logged once.

    permanent     a permanent failure; the recipient is suppressed if the code says so
    sender        the sender: a permanent failure if the message named it, else an account error
    account       an error of the account: the provider is not called until a person acts
    transient     a temporary failure: the message is retried
    rate_limited  a rate limit: the message is retried, and the attempt does not count
    unclear       the request may or may not have been carried out
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import assert_never

import structlog

from comms.platform import metrics
from consumers.sdk.http_transport import Answer
from consumers.sdk.outcomes import (
    AccountError,
    Ambiguous,
    Outcome,
    Refused,
    TryLater,
    accepted_or_ambiguous,
)
from schemas.events import ProviderResponse
from schemas.vocabulary import Channel, Reason, SuppressionReason

log = structlog.get_logger(__name__)

MOST_UNKNOWN = 50  # label values of a provider; the rest are counted as `other`
_LONGEST_CODE = 40


class Fault(StrEnum):
    """What a message that was not accepted failed on; see the module."""

    PERMANENT = "permanent"
    SENDER = "sender"
    ACCOUNT = "account"
    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The meaning of one code.

    Args:
        fault: what the message failed on.
        reason: of a permanent failure.
        suppress: the reason to suppress the recipient; None to suppress nobody.
        after: the minimum number of seconds before a retry, if the provider documents one.
    """

    fault: Fault
    reason: Reason = Reason.REJECTED
    suppress: SuppressionReason | None = None
    after: float | None = None


REJECTED = Meaning(fault=Fault.PERMANENT)
INVALID_RECIPIENT = Meaning(fault=Fault.PERMANENT, reason=Reason.INVALID_RECIPIENT)
CONTENT = Meaning(fault=Fault.PERMANENT, reason=Reason.INVALID_CONTENT)
OPTED_OUT = Meaning(
    fault=Fault.PERMANENT, reason=Reason.SUPPRESSED, suppress=SuppressionReason.OPT_OUT
)
GONE = Meaning(
    fault=Fault.PERMANENT, reason=Reason.INVALID_RECIPIENT, suppress=SuppressionReason.HARD_BOUNCE
)
SENDER = Meaning(fault=Fault.SENDER)
ACCOUNT = Meaning(fault=Fault.ACCOUNT)
TRANSIENT = Meaning(fault=Fault.TRANSIENT)
LIMITED = Meaning(fault=Fault.RATE_LIMITED)
UNCLEAR = Meaning(fault=Fault.UNCLEAR)


_BY_STATUS: Mapping[int, Meaning] = MappingProxyType(
    {
        401: ACCOUNT,
        402: ACCOUNT,
        403: ACCOUNT,
        408: TRANSIENT,
        413: CONTENT,
        425: TRANSIENT,
        429: LIMITED,
        504: UNCLEAR,  # a gateway gave up waiting; whoever it waited for may go on
    }
)


def by_status(status: int) -> Meaning:
    """Return the meaning of an HTTP status, if no code decides."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # The others are server errors, and redirects, which are not followed.
    return REJECTED if 400 <= status < 500 else TRANSIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable:
    """The codes of one API.

    Args:
        source: the page that documents them.
        codes: the meanings, by the code as text. Each spelling of a code is a row.
        statuses: the meanings of HTTP statuses that differ from `by_status`.
    """

    source: str
    codes: Mapping[str, Meaning]
    statuses: Mapping[int, Meaning] = field(default_factory=dict)


class Classifier:
    """Applies one provider's table, and counts the codes that it does not list."""

    def __init__(self, table: ErrorTable, *, channel: Channel, provider: str) -> None:
        self._table = table
        self._channel = channel
        self._provider = provider
        self._unknown: set[str] = set()

    def answered(
        self,
        response: ProviderResponse,
        answer: Answer,
        *,
        own_sender: bool = False,
        is_success: bool = True,
    ) -> Outcome:
        """Return the outcome of an answer of any status.

        Args:
            response: what the provider said. Its `code` is looked up.
            answer: the HTTP answer.
            own_sender: the message named its sender itself.
            is_success: False if an answer with a status of 2xx reports a failure.
        """
        if 200 <= answer.status < 300 and is_success:
            return accepted_or_ambiguous(response)
        return self.outcome(
            response,
            status=answer.status,
            retry_after=answer.retry_after(),
            own_sender=own_sender,
        )

    def outcome(
        self,
        response: ProviderResponse,
        *,
        status: int,
        retry_after: float | None = None,
        own_sender: bool = False,
    ) -> Outcome:
        """Return the outcome of an answer that was not a success.

        Args:
            response: what the provider said. Its `code` is looked up.
            status: of HTTP.
            retry_after: the number of seconds that the provider asked us to wait.
            own_sender: the message named its sender itself.
        """
        meaning = self.meaning(response.code, status=status)
        match meaning.fault:
            case Fault.PERMANENT:
                return Refused(reason=meaning.reason, response=response, suppress=meaning.suppress)
            case Fault.SENDER if own_sender:
                return Refused(reason=Reason.INVALID_CONTENT, response=response)
            case Fault.SENDER | Fault.ACCOUNT:
                return AccountError(response=response)
            case Fault.RATE_LIMITED:
                after = meaning.after if retry_after is None else retry_after
                return TryLater(reason=Reason.RATE_LIMITED, after=after, response=response)
            case Fault.TRANSIENT:
                after = meaning.after if retry_after is None else retry_after
                return TryLater(reason=Reason.PROVIDER_ERROR, after=after, response=response)
            case Fault.UNCLEAR:
                return Ambiguous(response=response)
            case _:
                assert_never(meaning.fault)

    def meaning(self, code: str | None, *, status: int) -> Meaning:
        """Return the meaning of a code, or else of the status."""
        if code is not None and code in self._table.codes:
            return self._table.codes[code]
        if code is not None and code != str(status):
            self._count(code)
        return self._table.statuses.get(status) or by_status(status)

    def of_receipt(self, code: str | None) -> Meaning | None:
        """Return the meaning of a receipt's code; None without a code or if it is not listed."""
        if code is None:
            return None
        if code not in self._table.codes:
            self._count(code)
        return self._table.codes.get(code)

    def _count(self, code: str) -> None:
        label = code[:_LONGEST_CODE]
        if label not in self._unknown:
            if len(self._unknown) >= MOST_UNKNOWN:
                label = "other"
            else:
                self._unknown.add(label)
                log.warning(
                    "provider.unknown_code",
                    channel=self._channel,
                    provider=self._provider,
                    code=label,
                    documented_at=self._table.source,
                )
        metrics.unknown_codes_total.labels(self._channel, self._provider, label).inc()


def unknown_codes(channel: Channel, provider: str) -> Mapping[str, int]:
    """Return how often a provider sent this process each code that its table does not list."""
    return {
        sample.labels["code"]: int(sample.value)
        for metric in metrics.unknown_codes_total.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
        and (sample.labels["channel"], sample.labels["provider"]) == (channel, provider)
    }


def reason_of_failure(meaning: Meaning | None) -> Reason:
    """Return why an accepted message was not delivered, by the meaning of its receipt's code."""
    if meaning is None or meaning.fault is not Fault.PERMANENT:
        return Reason.UNDELIVERED
    return Reason.UNDELIVERED if meaning.reason is Reason.REJECTED else meaning.reason
