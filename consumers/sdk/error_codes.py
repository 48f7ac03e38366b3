"""What providers' codes mean, as data: a table in each adapter's module, read in one place.

An adapter makes a `Classifier` of its table and gives it every answer that was no success; a
receipt parser asks it about the codes of receipts. A code that the table does not know is judged
by the HTTP status, counted in `comms_unknown_codes_total`, and told to the operator once.

    permanent     the message: refused for good, its recipient suppressed where the code says so
    sender        its sender: refused where the message named one, else the account's fault
    account       nothing of the message: the provider is left alone until a person acts
    transient     the moment: tried again
    rate_limited  our haste: tried again, which costs no attempt
    unclear       it may have been carried out
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
    """Whose fault it is that a message was not taken; see the module."""

    PERMANENT = "permanent"
    SENDER = "sender"
    ACCOUNT = "account"
    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one code says.

    Args:
        reason: of a refusal; suppress: why the recipient must not be reached again.
        after: seconds to wait at least, where the provider's documentation says so.
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
    """What an HTTP status says where nothing else does."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # The rest: a server's trouble, or a redirect that is not followed.
    return REJECTED if 400 <= status < 500 else TRANSIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable:
    """One API's codes.

    Args:
        source: the page that documents them.
        codes: what each means, by the code as text; several ways of writing one are several rows.
        statuses: what an HTTP status means there, where it differs from `by_status`.
    """

    source: str
    codes: Mapping[str, Meaning]
    statuses: Mapping[int, Meaning] = field(default_factory=dict)


class Classifier:
    """Reads one provider's table, and counts what it does not say."""

    def __init__(self, table: ErrorTable, *, channel: Channel, provider: str) -> None:
        self._table, self._channel, self._provider = table, channel, provider
        self._unknown: set[str] = set()

    def answered(
        self,
        response: ProviderResponse,
        answer: Answer,
        *,
        own_sender: bool = False,
        is_success: bool = True,
    ) -> Outcome:
        """What an answer of any status comes to; the rest as for `outcome`.

        Args:
            is_success: whether one of 2xx is what its status says; some tell of a failure.
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
        """What an answer that was no success comes to.

        Args:
            words: what the provider said; `response.code` is looked up.
            status: of HTTP; retry_after: seconds.
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
        """What a code means, or else its status."""
        if code is not None and code in self._table.codes:
            return self._table.codes[code]
        if code is not None and code != str(status):
            self._count(code)
        return self._table.statuses.get(status) or by_status(status)

    def of_receipt(self, code: str | None) -> Meaning | None:
        """What a receipt's code means; None for one that is not known, or for none."""
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
    """The codes that a provider said to this process and its table does not know; how often."""
    return {
        sample.labels["code"]: int(sample.value)
        for metric in metrics.unknown_codes_total.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
        and (sample.labels["channel"], sample.labels["provider"]) == (channel, provider)
    }


def reason_of_failure(meaning: Meaning | None) -> Reason:
    """Why a message that was accepted did not arrive, by what its receipt's code means."""
    if meaning is None or meaning.fault is not Fault.PERMANENT:
        return Reason.UNDELIVERED
    return Reason.UNDELIVERED if meaning.reason is Reason.REJECTED else meaning.reason
