"""What the ledger says about a message that wants to be delivered, and the decision made of it.

`decide` is pure: it is given what the ledger holds about a message and says what is to happen. The
dispatcher acts on the verdict.

    Begin     an attempt is this process's to make
    Repeat    it is settled already: announce the outcome again, send nothing
    Hold      its answer was lost, and the sender wants no repetition: it is unknown
    Suppress  its recipient must not be reached
    StepAside a call may still be running elsewhere: look again later
"""

from dataclasses import dataclass
from datetime import datetime

from consumers.delivery import Delivery, Lease
from consumers.routing import Choice
from schemas.events import ProviderWords
from schemas.vocabulary import OnDoubt, Reason, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """The newest attempt of a message, and what it came to.

    Args:
        age_seconds: since the claim, by the database's clock.
        status, reason: None while nothing is known of the call.
        in_doubt_with: the provider of a call whose answer was lost and that was, or is to be,
            repeated. Whatever attempt follows is that repetition, until one is answered.
    """

    attempt: int
    provider: str
    age_seconds: float
    status: Status | None
    reason: Reason | None
    occurred_at: datetime | None
    words: ProviderWords
    in_doubt_with: str | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Make attempt number `attempt`; `reason` is `ambiguous` when it repeats a call in doubt.

    Args:
        in_doubt_with: the provider that made the call in doubt, and alone may repeat it.
        choice: the provider to take in place of the one chosen for the message.
    """

    attempt: int
    reason: Reason = Reason.CLAIMED
    in_doubt_with: str | None = None
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """Already settled as `entry` says."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class Hold:
    """Attempt `attempt` through `provider` is in doubt and stays so."""

    attempt: int
    provider: str


@dataclass(frozen=True, slots=True)
class StepAside:
    """Look again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Suppress:
    """Attempt `attempt` is claimed, and must not be made: `why`."""

    attempt: int
    why: str


Verdict = Begin | Repeat | Hold | StepAside | Suppress


def decide(
    entry: LedgerEntry, delivery: Delivery, *, on_doubt: OnDoubt, doubt_after: float, most: int
) -> Verdict:
    """What is to happen to a message that the ledger knows.

    Args:
        entry: its newest attempt.
        on_doubt: the channel's setting, unless the message has its own.
        doubt_after: seconds after which an unsettled claim's call cannot be running any more.
        most: attempts the channel's policy allows; doubt is not repeated beyond it.
    """
    if entry.status is None:
        return _of_open_claim(
            entry, delivery, on_doubt=on_doubt, doubt_after=doubt_after, most=most
        )
    is_retry = entry.status is Status.SENDING and isinstance(delivery.source, Lease)
    if not is_retry:
        return Repeat(entry)
    if entry.in_doubt_with is not None:
        return Begin(entry.attempt + 1, Reason.AMBIGUOUS, entry.in_doubt_with)
    return Begin(entry.attempt + 1)


def _of_open_claim(
    entry: LedgerEntry, delivery: Delivery, *, on_doubt: OnDoubt, doubt_after: float, most: int
) -> Verdict:
    if entry.age_seconds < doubt_after:
        return StepAside(doubt_after - entry.age_seconds)
    hold = (delivery.message.on_doubt or on_doubt) is OnDoubt.HOLD
    was_the_repetition = entry.in_doubt_with is not None
    if hold or was_the_repetition or entry.attempt >= most:
        return Hold(entry.attempt, entry.provider)
    return Begin(entry.attempt + 1, Reason.AMBIGUOUS, entry.provider)
