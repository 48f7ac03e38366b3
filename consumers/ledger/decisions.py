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
from schemas.events import ProviderWords
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
    words: ProviderWords
    in_doubt_with: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the ledger holds about a message.

    Args:
        newest: its newest attempt.
        opened: the attempt with which its present chapter began: 1, or the newest that a person
            asked for. The policy's limits count from there.
        wish: the attempt that was made for the wish in hand, if there is a wish and it was.
        excused: attempts of the chapter that came to nothing by an account's fault, not its own.
    """

    newest: LedgerEntry
    opened: int = 1
    wish: LedgerEntry | None = None
    excused: int = 0

    @property
    def tries(self) -> int:
        """Attempts in the present chapter that count."""
        return self.newest.attempt - self.opened + 1 - self.excused


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
        excused: attempts before it that do not count, as in `Known`.
    """

    attempt: int
    reason: Reason = Reason.CLAIMED
    in_doubt_with: str | None = None
    choice: Choice | None = None
    opened: int = 1
    known_as: int = 1
    bypassed: str | None = None
    left_out: frozenset[str] = field(default=frozenset(), repr=False)
    excused: int = 0


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
    """The attempt of `begin` is claimed, and must not be made: `why`."""

    begin: Begin
    why: str


Verdict = Begin | Repeat | Hold | StepAside | Suppress


def decide(
    known: Known, delivery: Delivery, *, on_doubt: OnDoubt, doubt_after: float, most: int
) -> Verdict:
    """What is to happen to a message that the ledger knows.

    Args:
        on_doubt: the channel's setting, unless the message has its own.
        doubt_after: seconds after which an unsettled claim's call cannot be running any more.
        most: attempts the channel's policy allows; doubt is not repeated beyond it.
    """
    newest = known.newest
    if delivery.wish is not None and newest is not known.wish:
        return _of_wish(known, doubt_after=doubt_after)
    if newest.status is None:
        hold = (delivery.message.on_doubt or on_doubt) is OnDoubt.HOLD
        was_the_repetition = newest.in_doubt_with is not None
        hold = hold or was_the_repetition or known.tries >= most
        return _of_open_claim(known, doubt_after=doubt_after, hold=hold)
    is_retry = newest.status is Status.SENDING and isinstance(delivery.source, Lease)
    if not is_retry or delivery.wish is not None:
        return Repeat(newest)
    return _another(known, in_doubt_with=newest.in_doubt_with)


def _of_wish(known: Known, *, doubt_after: float) -> Verdict:
    """A wish whose attempt is not the newest: it was made long ago, or is still to be made. A call
    that was left open is not the wish's to settle: whoever repeats it comes first."""
    newest = known.newest
    if known.wish is not None:
        return Repeat(known.wish)
    if newest.status is None:
        return StepAside(max(doubt_after - newest.age_seconds, LOOK_AGAIN))
    if newest.status is Status.CANCELLED:
        return Repeat(newest)
    attempt = newest.attempt + 1
    if newest.reason is Reason.AMBIGUOUS:
        provider = newest.in_doubt_with or newest.provider
        return Begin(attempt, Reason.RESENT, provider, opened=attempt, known_as=known.opened)
    return Begin(attempt, Reason.RESENT, opened=attempt, known_as=attempt)


def _of_open_claim(known: Known, *, doubt_after: float, hold: bool) -> Verdict:
    newest = known.newest
    if newest.age_seconds < doubt_after:
        return StepAside(doubt_after - newest.age_seconds)
    if hold:
        return Hold(newest.attempt, newest.provider)
    return _another(known, in_doubt_with=newest.provider)


def _another(known: Known, *, in_doubt_with: str | None) -> Begin:
    """The next attempt of the same chapter."""
    return Begin(
        known.newest.attempt + 1,
        Reason.CLAIMED if in_doubt_with is None else Reason.AMBIGUOUS,
        in_doubt_with,
        opened=known.opened,
        known_as=known.opened,
        excused=known.excused,
    )
