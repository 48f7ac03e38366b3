"""From what a call came to, to what the ledger keeps and the world is told.

The dispatcher gives every outcome to a `Settler`, which decides by the channel's policy whether the
message is sent, failed, held in doubt or tried again, and returns the ledger's row together with
the event that announces it.
"""

import random
from dataclasses import dataclass, field, replace
from typing import assert_never

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import ChannelSettings
from consumers.ledger.decisions import Begin, Hold, LedgerEntry
from consumers.ledger.delivery import Delivery
from consumers.ledger.store import Settlement
from consumers.pipeline import retry
from consumers.sdk.outcomes import Accepted, Ambiguous, Blocked, Outcome, Refused, TryLater
from schemas import events
from schemas.events import ProviderWords, StatusEvent
from schemas.vocabulary import OnDoubt, Reason, Status

IN_DOUBT = ProviderWords(detail="the call was made and its answer was lost; held for a receipt")
TOO_LATE_TO_REPEAT = ProviderWords(detail="an answer was lost, and it is too late to ask again")
PAST_DEADLINE = ProviderWords(detail="the time allowed for attempts passed before this one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt that was made: `attempt` of `delivery` through `provider`.

    Args:
        repeats_doubt: its outcome is that of a call whose answer was lost.
        doubt_elsewhere: that call was another provider's.
        opened, known_as, excused, left_out: as in `consumers.ledger.decisions.Begin`.
    """

    delivery: Delivery
    attempt: int
    provider: str
    reason: Reason = Reason.CLAIMED
    repeats_doubt: bool = False
    doubt_elsewhere: bool = False
    opened: int = 1
    known_as: int = 1
    excused: int = 0
    left_out: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def tries(self) -> int:
        """Attempts in its chapter, this one among them: the policy's limits count from where a
        person last asked for it, and leave out those that an account's fault cost it."""
        return self.attempt - self.opened + 1 - self.excused

    @classmethod
    def of(cls, begin: Begin, delivery: Delivery, provider: str) -> "Call":
        """The call that a verdict asks for."""
        return cls(
            delivery=delivery,
            attempt=begin.attempt,
            provider=provider,
            reason=begin.reason,
            repeats_doubt=begin.in_doubt_with is not None,
            doubt_elsewhere=begin.in_doubt_with not in (None, provider),
            opened=begin.opened,
            known_as=begin.known_as,
            excused=begin.excused,
            left_out=begin.left_out,
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """A row for the ledger and the event that announces it; `before` it, what else there is to be
    told."""

    row: Settlement
    event: StatusEvent
    before: StatusEvent | None = None


@dataclass(frozen=True, slots=True)
class Settler:
    """A channel's policy, applied to outcomes."""

    settings: ChannelSettings
    clock: Clock = utc_now
    source: random.Random = field(default_factory=random.Random)

    def settle(self, call: Call, outcome: Outcome) -> Settled:
        """What the outcome of a call means for its message."""
        match outcome:
            case Accepted(words=words, gone=gone):
                settled = self._final(call, Status.SENT, Reason.ACCEPTED, words)
                return _with_devices_gone(settled, call, gone)
            case Refused(reason=reason, words=words, suppress=suppress, gone=gone):
                settled = self._refused(call, reason, words)
                return replace(settled, row=replace(settled.row, suppress=suppress, gone=gone))
            case TryLater():
                return self._again_if_allowed(call, outcome)
            case Blocked(words=words):
                return self._not_its_fault(call, words)
            case Ambiguous(words=words):
                return self._doubt(call, words)
            case _:
                assert_never(outcome)

    def too_late(self, call: Call) -> Settled | None:
        """The end of a message whose call may not be made any more; None where it may.

        What a person asked to be sent again gets an attempt, whatever the deadline was.
        """
        message, now = call.delivery.message, self.clock()
        if retry.is_too_late(message.expires_at, now=now, wait=0):
            return self._given_up(call, Reason.EXPIRED, events.SILENCE)
        if call.reason is Reason.RESENT or not retry.is_past_deadline(
            self.settings.retry, message, now=now
        ):
            return None
        return self._given_up(call, Reason.RETRIES_EXHAUSTED, PAST_DEADLINE)

    def suppressed(self, call: Call, why: str) -> Settled:
        """The recipient must not be reached; no call was made."""
        return self._final(call, Status.FAILED, Reason.SUPPRESSED, ProviderWords(detail=why))

    def no_way(self, call: Call, why: str) -> Settled:
        """No provider takes the message; no call was made."""
        return self._given_up(call, Reason.NO_PROVIDER, ProviderWords(detail=why))

    def held(self, delivery: Delivery, verdict: Hold) -> Settled:
        """An attempt whose worker was lost in the call, for a sender who wants no repetition."""
        call = Call(delivery=delivery, attempt=verdict.attempt, provider=verdict.provider)
        return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, IN_DOUBT)

    def _refused(self, call: Call, reason: Reason, words: ProviderWords) -> Settled:
        """What one provider does not send, another may have sent before in a call whose answer was
        lost; not so to a number that nobody has."""
        if call.doubt_elsewhere and reason is not Reason.INVALID_RECIPIENT:
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, words)
        return self._final(call, Status.FAILED, reason, words)

    def _again_if_allowed(self, call: Call, outcome: TryLater) -> Settled:
        policy = self.settings.retry
        if retry.is_exhausted(policy, attempt=call.tries, outcome=outcome):
            return self._given_up(call, Reason.RETRIES_EXHAUSTED, outcome.words)
        wait = retry.wait_seconds(
            policy, attempt=call.tries, after=outcome.after, source=self.source
        )
        ended = self._ended_before_the_next(call, outcome.words, wait)
        return ended or self._again(call, outcome.reason, outcome.words, wait)

    def _not_its_fault(self, call: Call, words: ProviderWords) -> Settled:
        """Tried again however often, soon: by another provider, or when this one is put right, for
        until then nothing is taken up while no provider can be called."""
        wait = retry.wait_seconds(self.settings.retry, attempt=1, after=None, source=self.source)
        ended = self._ended_before_the_next(call, words, wait)
        return ended or self._again(call, Reason.ACCOUNT_FAULT, words, wait)

    def _ended_before_the_next(
        self, call: Call, words: ProviderWords, wait: float
    ) -> Settled | None:
        """The end of a message whose next attempt would come too late; None where it would not."""
        message, now = call.delivery.message, self.clock()
        if retry.is_too_late(message.expires_at, now=now, wait=wait):
            return self._given_up(call, Reason.EXPIRED, words)
        if retry.is_past_deadline(self.settings.retry, message, now=now, wait=wait):
            return self._given_up(call, Reason.RETRIES_EXHAUSTED, words)
        return None

    def _given_up(self, call: Call, reason: Reason, words: ProviderWords) -> Settled:
        """There is no further call. Where one was made before whose answer was lost, nobody knows
        whether the message went out: that its repetition was not made tells nothing."""
        if call.repeats_doubt:
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, TOO_LATE_TO_REPEAT)
        return self._final(call, Status.FAILED, reason, words)

    def _doubt(self, call: Call, words: ProviderWords) -> Settled:
        """Repeated once at most: a person who was reached twice should not be reached six times."""
        wish = call.delivery.message.on_doubt or self.settings.on_doubt
        if wish is OnDoubt.HOLD or call.repeats_doubt:
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, words)
        wait = retry.wait_seconds(
            self.settings.retry, attempt=call.tries, after=None, source=self.source
        )
        if retry.is_past_deadline(
            self.settings.retry, call.delivery.message, now=self.clock(), wait=wait
        ):
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, words)
        return self._again(call, Reason.AMBIGUOUS, words, wait)

    def _again(self, call: Call, reason: Reason, words: ProviderWords, wait: float) -> Settled:
        return self._settled(call, Status.SENDING, reason, words, wait=wait)

    def _final(self, call: Call, status: Status, reason: Reason, words: ProviderWords) -> Settled:
        return self._settled(call, status, reason, words, wait=None)

    def _settled(
        self,
        call: Call,
        status: Status,
        reason: Reason,
        words: ProviderWords,
        *,
        wait: float | None,
    ) -> Settled:
        now = self.clock()
        row = Settlement(
            delivery=call.delivery,
            attempt=call.attempt,
            status=status,
            reason=reason,
            words=words,
            occurred_at=now,
            retry_after=wait,
            is_resend=call.opened > 1,
        )
        return Settled(row, announcement(row, call.provider))


def _with_devices_gone(settled: Settled, call: Call, gone: tuple[str, ...]) -> Settled:
    """A message that reached one device of several, and others are not there any more."""
    if not gone:
        return settled
    row = replace(settled.row, gone=gone)
    told = events.devices_gone(
        call.delivery.message,
        attempt=row.attempt,
        provider=call.provider,
        at=row.occurred_at,
        words=row.words,
    )
    return replace(settled, row=row, before=told)


def repeated(delivery: Delivery, entry: LedgerEntry) -> StatusEvent | None:
    """The event that was announced for a settled attempt, again; None for a cancelled message,
    whose end the producer announces."""
    if entry.status is None or entry.reason is None or entry.occurred_at is None:
        return None
    if entry.status is Status.CANCELLED:
        return None
    row = Settlement(
        delivery=delivery,
        attempt=entry.attempt,
        status=entry.status,
        reason=entry.reason,
        words=entry.words,
        occurred_at=entry.occurred_at,
    )
    return announcement(row, entry.provider)


def announcement(row: Settlement, provider: str) -> StatusEvent:
    """The event of a settled attempt."""
    message, at = row.delivery.message, row.occurred_at
    match row.status:
        case Status.SENT:
            return events.accepted(
                message, attempt=row.attempt, provider=provider, at=at, words=row.words
            )
        case Status.UNKNOWN:
            return events.in_doubt(
                message, attempt=row.attempt, provider=provider, at=at, words=row.words
            )
        case Status.SENDING:
            return events.deferred(
                message,
                attempt=row.attempt,
                provider=provider,
                at=at,
                reason=row.reason,
                words=row.words,
            )
        case _:
            return events.failed(
                message,
                reason=row.reason,
                at=at,
                attempt=row.attempt,
                provider=provider,
                words=row.words,
            )
