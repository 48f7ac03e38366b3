"""Decides what happens to a message that the ledger already knows.

`consumers.pipeline.claiming` passes what the ledger holds about a message to `decide`, which is
pure. `consumers.pipeline.decision_handler` acts on the decision:

    Begin           this process makes an attempt
    AlreadySettled  the outcome is known: publish it again, send nothing
    HoldUnknown     the answer was lost and the sender wants no repetition: the message is unknown
    Suppress        the recipient is on the suppression list: no call
    Defer           a call may still be running elsewhere: look again later

A message's attempts form send cycles. The first cycle begins with attempt 1, and each resend that a
person requests begins a new one. The retry policy counts attempts within the current cycle.
"""

from dataclasses import dataclass, field
from datetime import datetime

from consumers.ledger.delivery import Delivery, Lease
from consumers.routing import Choice
from schemas.events import ProviderResponse
from schemas.vocabulary import OnDoubt, Reason, Status

RECHECK_SECONDS = 5.0  # between looks at a lost call that another process will repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One attempt of a message and its outcome.

    Args:
        age_seconds: time since the claim, by the database's clock.
        status: None while the outcome of the call is not known; `reason` likewise.
        in_doubt_with: the provider whose answer to an earlier call was lost. The attempts after
            that call repeat it, until one of them gets an answer.
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
        cycle_start: the attempt that began the current send cycle: 1, or the newest one that a
            person requested. The policy's limits count from there.
        resend_request: the attempt that was made for the delivery's resend request. None if the
            delivery has no request, or if the request has no attempt yet.
        uncounted_attempts: attempts of the cycle that failed because of an account error. They do
            not count towards the policy's limits.
    """

    newest: LedgerEntry
    cycle_start: int = 1
    resend_request: LedgerEntry | None = None
    uncounted_attempts: int = 0

    @property
    def counted_attempts(self) -> int:
        """The attempts of the current cycle that count towards the policy's limits."""
        return self.newest.attempt - self.cycle_start + 1 - self.uncounted_attempts


@dataclass(frozen=True, slots=True)
class Begin:
    """Make attempt number `attempt`.

    Args:
        reason: `ambiguous` if it repeats a call whose answer was lost, `resent` if a person
            requested it, else `claimed`.
        in_doubt_with: the provider of the call whose answer was lost, whichever provider repeats
            it.
        choice: the provider to use instead of the one selected for the message.
        cycle_start: the attempt that begins its send cycle.
        idempotency_attempt: the attempt whose cycle the idempotency key is made of, so that a
            provider recognises a repetition.
        bypassed: why the recipient is on the suppression list, for a message that ignores it.
        suppressed_recipients: those of several recipients who are on the list and are left out.
        uncounted_attempts: as in `AttemptHistory`.
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
    """The message is settled; `entry` has the outcome."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class HoldUnknown:
    """The answer to attempt `attempt` through `provider` was lost, and it is not repeated."""

    attempt: int
    provider: str


@dataclass(frozen=True, slots=True)
class Defer:
    """Look again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Suppress:
    """The attempt of `begin` is claimed, and its call is not made; `why` says which list entry."""

    begin: Begin
    why: str


ClaimDecision = Begin | AlreadySettled | HoldUnknown | Defer | Suppress


def decide(
    history: AttemptHistory,
    delivery: Delivery,
    *,
    on_doubt: OnDoubt,
    doubt_after: float,
    max_attempts: int,
) -> ClaimDecision:
    """Decide what happens to a message that has an attempt.

    Args:
        on_doubt: the channel's setting; the message's own setting overrides it.
        doubt_after: seconds after which the call of an unsettled claim cannot be running any more.
        max_attempts: how many attempts the channel's policy allows. A lost call is not repeated
            beyond it.
    """
    newest = history.newest
    if delivery.resend_request is not None and newest is not history.resend_request:
        return _decide_resend(history, doubt_after=doubt_after)
    if newest.status is None:
        hold = (
            (delivery.message.on_doubt or on_doubt) is OnDoubt.HOLD
            or newest.in_doubt_with is not None  # it was the repetition
            or history.counted_attempts >= max_attempts
        )
        return _decide_unsettled(history, doubt_after=doubt_after, hold=hold)
    is_retry = newest.status is Status.SENDING and isinstance(delivery.source, Lease)
    if not is_retry or delivery.resend_request is not None:
        return AlreadySettled(newest)
    return _begin_next(history, in_doubt_with=newest.in_doubt_with)


def _decide_resend(history: AttemptHistory, *, doubt_after: float) -> ClaimDecision:
    """Decide on a resend request whose attempt is not the newest.

    The attempt was made long ago, or is still to be made. A claim that is unsettled does not belong
    to the request. The process that repeats it comes first.
    """
    newest = history.newest
    if history.resend_request is not None:
        return AlreadySettled(history.resend_request)
    if newest.status is None:
        return Defer(max(doubt_after - newest.age_seconds, RECHECK_SECONDS))
    if newest.status is Status.CANCELLED:
        return AlreadySettled(newest)
    attempt = newest.attempt + 1
    if newest.reason is Reason.AMBIGUOUS:
        return Begin(
            attempt,
            Reason.RESENT,
            newest.in_doubt_with or newest.provider,
            cycle_start=attempt,
            idempotency_attempt=history.cycle_start,
        )
    return Begin(attempt, Reason.RESENT, cycle_start=attempt, idempotency_attempt=attempt)


def _decide_unsettled(history: AttemptHistory, *, doubt_after: float, hold: bool) -> ClaimDecision:
    """Decide on a message whose newest claim has no outcome."""
    newest = history.newest
    if newest.age_seconds < doubt_after:
        return Defer(doubt_after - newest.age_seconds)
    if hold:
        return HoldUnknown(newest.attempt, newest.provider)
    return _begin_next(history, in_doubt_with=newest.provider)


def _begin_next(history: AttemptHistory, *, in_doubt_with: str | None) -> Begin:
    """Begin the next attempt of the current send cycle."""
    return Begin(
        history.newest.attempt + 1,
        Reason.CLAIMED if in_doubt_with is None else Reason.AMBIGUOUS,
        in_doubt_with,
        cycle_start=history.cycle_start,
        idempotency_attempt=history.cycle_start,
        uncounted_attempts=history.uncounted_attempts,
    )
