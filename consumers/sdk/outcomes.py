"""The outcomes of a provider call: five values, and one place that acts on them.

Every adapter returns one of these and raises nothing. `consumers.pipeline.settlement` turns each
into a row of the ledger and an event.

    Accepted      the provider accepted the message
    Refused       a permanent failure: the message is failed
    TryLater      a temporary failure: nothing was sent, and another attempt follows
    AccountError  an error of our account, not of the message: nothing was sent. The provider is
                  not called for a while, and the attempt does not count
    Ambiguous     the request was sent and its answer was lost: the result is not known
"""

from dataclasses import dataclass, field, replace

from schemas.events import NO_RESPONSE, ProviderResponse
from schemas.vocabulary import Reason, SuppressionReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider accepted the message.

    `response.provider_message_id` is its id there. If one message became several there (the parts
    of a long text), it is the id of the first, and the others are in `response.raw`. Their receipts
    carry our own id and are matched by it. If they do not (SMPP), the receipt of one part decides,
    and the id is that part's.

    Args:
        response: what the provider said.
        invalid_recipients: those of the message's several recipients that no longer exist.
    """

    response: ProviderResponse = NO_RESPONSE
    invalid_recipients: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider will never accept this message.

    Args:
        reason: `rejected`, `invalid_recipient`, `invalid_content` or `suppressed`.
        response: what the provider said.
        suppress: the reason to suppress the recipient, if the provider gives one.
        invalid_recipients: as in `Accepted`.
    """

    reason: Reason
    response: ProviderResponse = NO_RESPONSE
    suppress: SuppressionReason | None = None
    invalid_recipients: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TryLater:
    """Nothing was sent, and another attempt may succeed.

    Args:
        reason: `provider_error`, `rate_limited` or `timeout` (no connection; nothing was written).
        after: the number of seconds that the provider asked us to wait (Retry-After), or None.
        response: what the provider said.
    """

    reason: Reason
    after: float | None = None
    response: ProviderResponse = NO_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountError:
    """The account was refused: a bad key, no credit, a suspension, a sender that is not ours.

    Nothing was sent. Every message would fail in the same way, so the provider is not called for a
    while, and a person has to act. `response` is shown to them.
    """

    response: ProviderResponse = NO_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """The request was written and no answer arrived: it may or may not have been carried out."""

    response: ProviderResponse = NO_RESPONSE


Outcome = Accepted | Refused | TryLater | AccountError | Ambiguous


def label_of(outcome: Outcome) -> str:
    """Return the outcome's name in metrics and logs. Dashboards and alerts rely on it."""
    match outcome:
        case Accepted():
            return "accepted"
        case Refused():
            return "refused"
        case TryLater():
            return "trylater"
        case AccountError():
            return "blocked"
        case Ambiguous():
            return "ambiguous"


def accepted_or_ambiguous(response: ProviderResponse) -> Accepted | Ambiguous:
    """Return the outcome of a success.

    If the answer does not name the message, it is not the provider's own (a gateway's page, half an
    answer), and the result is not known.
    """
    return (
        Accepted(response=response)
        if response.provider_message_id
        else Ambiguous(response=response)
    )


def without_side_effects(outcome: Outcome) -> Outcome:
    """Return the outcome of a test message, which is not meant to arrive.

    An account error is a permanent failure, since nobody waits for the message. No recipient is
    suppressed, since the test says nothing about them.
    """
    match outcome:
        case AccountError(response=response):
            return Refused(reason=Reason.REJECTED, response=response)
        case Refused():
            return replace(outcome, suppress=None, invalid_recipients=())
        case Accepted():
            return replace(outcome, invalid_recipients=())
        case _:
            return outcome
