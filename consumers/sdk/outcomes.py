"""What a call of a provider can come to: five values, and one place that acts on them.

Every adapter returns one of these and raises nothing; `consumers.pipeline.settlement` turns each
into a row of the ledger and an event.

    Accepted      the provider took it
    Refused       for good: the message is failed
    TryLater      for the moment: nothing was sent, another attempt follows
    Blocked       our account, not the message: nothing was sent, nor will be until it is put right;
                  the provider is left alone, and the attempt does not count
    Ambiguous     the request left and its answer was lost: nobody knows
"""

from dataclasses import dataclass, field, replace

from schemas.events import NO_RESPONSE, ProviderResponse
from schemas.vocabulary import Reason, SuppressionReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider took the message; `response.provider_message_id` is its id there.

    Where one message became several there (the parts of a long text), it is the first one's; the
    others stand in `response.raw`. Their receipts carry our own id, and are matched by that; of
    receipts that do not (SMPP), one decides, and it is that one's.

    Args:
        gone: of the message's several recipients, those whom nobody can be reached at any more.
    """

    response: ProviderResponse = NO_RESPONSE
    invalid_recipients: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider will never take this message.

    Args:
        reason: `rejected`, `invalid_recipient`, `invalid_content` or `suppressed`.
        suppress: why its recipient must not be reached again, where the provider says so.
        gone: as in `Accepted`.
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
        after: seconds the provider asked us to wait (Retry-After), or None.
    """

    reason: Reason
    after: float | None = None
    response: ProviderResponse = NO_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountError:
    """The account is refused: a bad key, no credit, suspended, a sender that is not ours to use.

    Nothing was sent. Every message would meet the same, so it is the provider that waits, and a
    person that has to act; `response` tell them what about.
    """

    response: ProviderResponse = NO_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """The request was written and no answer came: it may or may not have been carried out."""

    response: ProviderResponse = NO_RESPONSE


Outcome = Accepted | Refused | TryLater | AccountError | Ambiguous


def label_of(outcome: Outcome) -> str:
    """The outcome's word in metrics and logs; dashboards and alerts rely on it."""
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
    """What a success comes to: the provider took the message, if the answer names it. Another is
    not the provider's own (a gateway's page, half an answer), and nobody knows."""
    return (
        Accepted(response=response)
        if response.provider_message_id
        else Ambiguous(response=response)
    )


def without_side_effects(outcome: Outcome) -> Outcome:
    """What an outcome means for a message that was not meant to arrive: an account's fault ends it,
    since nobody waits for it, and no recipient is suppressed by what was not theirs."""
    match outcome:
        case AccountError(response=response):
            return Refused(reason=Reason.REJECTED, response=response)
        case Refused():
            return replace(outcome, suppress=None, invalid_recipients=())
        case Accepted():
            return replace(outcome, invalid_recipients=())
        case _:
            return outcome
