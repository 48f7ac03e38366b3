"""What the ledger says about a message that wants to be delivered, and the decision made of it.

`decide` is pure: it is given what the ledger holds about a message and says what is to happen. The
dispatcher acts on the verdict.

    Begin     an attempt is this process's to make
    Repeat    it is settled already: announce the outcome again, send nothing
    Hold      its answer was lost, and the sender wants no repetition: it is unknown
    Suppress  its recipient must not be reached
    StepAside a call may still be running elsewhere: look again later
"""

from dataclasses import dataclass, field
from datetime import datetime

from consumers.ledger.delivery import Delivery, Lease
from consumers.routing import Choice
from schemas.events import ProviderResponse
from schemas.vocabulary import OnDoubt, Reason, Status

LOOK_AGAIN = 5.0  # seconds between looks at a call that was cut off and that others take up


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
    response: ProviderResponse
    in_doubt_with: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptHistory:
    """What the ledger holds about a message.

    Args:
        newest: its newest attempt.
        opened: the attempt with which its present chapter began: 1, or the newest that a person
            asked for. The policy's limits count from there.
        wish: the attempt that was made for the wish in hand, if there is a wish and it was.
        excused: attempts of the chapter that came to nothing by an account's fault, not its own.
    """

    newest: LedgerEntry
    cycle_start: int = 1
    resend_request: LedgerEntry | None = None
    uncounted_attempts: int = 0

    @property
    def tries(self) -> int:
        """Attempts in the present chapter that count."""
        return self.newest.attempt - self.cycle_start + 1 - self.uncounted_attempts


@dataclass(frozen=True, slots=True)
class Begin:
    """Make attempt number `attempt`; `reason` is `ambiguous` when it repeats a call in doubt, and
    `resent` when a person asked for it.

    Args:
        in_doubt_with: the provider that made the call in doubt, whoever repeats it.
        choice: the provider to take in place of the one chosen for the message.
        opened: the attempt with which its chapter begins.
        known_as: the attempt by whose chapter a provider may know the call already.
        bypassed: why its recipient must not be reached, for a message that is sent even so.
        left_out: of its several recipients those who must not be reached.
        excused: attempts before it that do not count, as in `AttemptHistory`.
    """

    attempt: int
    reason: Reason = Reason.CLAIMED
    in_doubt_with: str | None = None
    choice: Choice | None = None
    cycle_start: int = 1
    idempotency_attempt: int = 1
    bypassed: str | None = None
    suppressed_recipients: frozenset[str] = field(default=frozenset(), repr=False)
    uncounted_attempts: int = 0


@dataclass(frozen=True, slots=True)
class AlreadySettled:
    """Already settled as `entry` says."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class HoldUnknown:
    """Attempt `attempt` through `provider` is in doubt and stays so."""

    attempt: int
    provider: str


@dataclass(frozen=True, slots=True)
class Defer:
    """Look again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Suppress:
    """The attempt of `begin` is claimed, and must not be made: `why`."""

    begin: Begin
    why: str


ClaimDecision = Begin | AlreadySettled | HoldUnknown | Defer | Suppress


def decide(
    known: AttemptHistory, delivery: Delivery, *, on_doubt: OnDoubt, doubt_after: float, most: int
) -> ClaimDecision:
    """What is to happen to a message that the ledger knows.

    Args:
        on_doubt: the channel's setting, unless the message has its own.
        doubt_after: seconds after which an unsettled claim's call cannot be running any more.
        most: attempts the channel's policy allows; doubt is not repeated beyond it.
    """
    newest = known.newest
    if delivery.resend_request is not None and newest is not known.resend_request:
        return _of_wish(known, doubt_after=doubt_after)
    if newest.status is None:
        hold = (delivery.message.on_doubt or on_doubt) is OnDoubt.HOLD
        was_the_repetition = newest.in_doubt_with is not None
        hold = hold or was_the_repetition or known.tries >= most
        return _of_open_claim(known, doubt_after=doubt_after, hold=hold)
    is_retry = newest.status is Status.SENDING and isinstance(delivery.source, Lease)
    if not is_retry or delivery.resend_request is not None:
        return AlreadySettled(newest)
    return _another(known, in_doubt_with=newest.in_doubt_with)


def _of_wish(known: AttemptHistory, *, doubt_after: float) -> ClaimDecision:
    """A wish whose attempt is not the newest: it was made long ago, or is still to be made. A call
    that was left open is not the wish's to settle: whoever repeats it comes first."""
    newest = known.newest
    if known.resend_request is not None:
        return AlreadySettled(known.resend_request)
    if newest.status is None:
        return Defer(max(doubt_after - newest.age_seconds, LOOK_AGAIN))
    if newest.status is Status.CANCELLED:
        return AlreadySettled(newest)
    attempt = newest.attempt + 1
    if newest.reason is Reason.AMBIGUOUS:
        provider = newest.in_doubt_with or newest.provider
        return Begin(
            attempt,
            Reason.RESENT,
            provider,
            cycle_start=attempt,
            idempotency_attempt=known.cycle_start,
        )
    return Begin(attempt, Reason.RESENT, cycle_start=attempt, idempotency_attempt=attempt)


def _of_open_claim(known: AttemptHistory, *, doubt_after: float, hold: bool) -> ClaimDecision:
    newest = known.newest
    if newest.age_seconds < doubt_after:
        return Defer(doubt_after - newest.age_seconds)
    if hold:
        return HoldUnknown(newest.attempt, newest.provider)
    return _another(known, in_doubt_with=newest.provider)


def _another(known: AttemptHistory, *, in_doubt_with: str | None) -> Begin:
    """The next attempt of the same chapter."""
    return Begin(
        known.newest.attempt + 1,
        Reason.CLAIMED if in_doubt_with is None else Reason.AMBIGUOUS,
        in_doubt_with,
        cycle_start=known.cycle_start,
        idempotency_attempt=known.cycle_start,
        uncounted_attempts=known.uncounted_attempts,
    )
