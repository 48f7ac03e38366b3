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
from consumers.ledger.decisions import Begin, HoldUnknown, LedgerEntry
from consumers.ledger.delivery import Delivery
from consumers.ledger.store import Settlement
from consumers.pipeline import retry
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused, TryLater
from schemas import events
from schemas.events import ProviderResponse, StatusEvent
from schemas.vocabulary import OnDoubt, Reason, Status

IN_DOUBT = ProviderResponse(detail="the call was made and its answer was lost; held for a receipt")
TOO_LATE_TO_REPEAT = ProviderResponse(detail="an answer was lost, and it is too late to ask again")
PAST_DEADLINE = ProviderResponse(detail="the time allowed for attempts passed before this one")


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
    cycle_start: int = 1
    idempotency_attempt: int = 1
    uncounted_attempts: int = 0
    suppressed_recipients: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def tries(self) -> int:
        """Attempts in its chapter, this one among them: the policy's limits count from where a
        person last asked for it, and leave out those that an account's fault cost it."""
        return self.attempt - self.cycle_start + 1 - self.uncounted_attempts

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
            cycle_start=begin.cycle_start,
            idempotency_attempt=begin.idempotency_attempt,
            uncounted_attempts=begin.uncounted_attempts,
            suppressed_recipients=begin.suppressed_recipients,
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
            case Accepted(response=response, invalid_recipients=invalid_recipients):
                settled = self._final(call, Status.SENT, Reason.ACCEPTED, response)
                return _with_invalid_recipients(settled, call, invalid_recipients)
            case Refused(
                reason=reason,
                response=response,
                suppress=suppress,
                invalid_recipients=invalid_recipients,
            ):
                settled = self._refused(call, reason, response)
                return replace(
                    settled,
                    row=replace(
                        settled.row, suppress=suppress, invalid_recipients=invalid_recipients
                    ),
                )
            case TryLater():
                return self._again_if_allowed(call, outcome)
            case AccountError(response=response):
                return self._not_its_fault(call, response)
            case Ambiguous(response=response):
                return self._doubt(call, response)
            case _:
                assert_never(outcome)

    def too_late(self, call: Call) -> Settled | None:
        """The end of a message whose call may not be made any more; None where it may.

        What a person asked to be sent again gets an attempt, whatever the deadline was.
        """
        message, now = call.delivery.message, self.clock()
        if retry.is_too_late(message.expires_at, now=now, wait=0):
            return self._given_up(call, Reason.EXPIRED, events.NO_RESPONSE)
        if call.reason is Reason.RESENT or not retry.is_past_deadline(
            self.settings.retry, message, now=now
        ):
            return None
        return self._given_up(call, Reason.RETRIES_EXHAUSTED, PAST_DEADLINE)

    def suppressed(self, call: Call, why: str) -> Settled:
        """The recipient must not be reached; no call was made."""
        return self._final(call, Status.FAILED, Reason.SUPPRESSED, ProviderResponse(detail=why))

    def no_way(self, call: Call, why: str) -> Settled:
        """No provider takes the message; no call was made."""
        return self._given_up(call, Reason.NO_PROVIDER, ProviderResponse(detail=why))

    def held(self, delivery: Delivery, verdict: HoldUnknown) -> Settled:
        """An attempt whose worker was lost in the call, for a sender who wants no repetition."""
        call = Call(delivery=delivery, attempt=verdict.attempt, provider=verdict.provider)
        return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, IN_DOUBT)

    def _refused(self, call: Call, reason: Reason, response: ProviderResponse) -> Settled:
        """What one provider does not send, another may have sent before in a call whose answer was
        lost; not so to a number that nobody has."""
        if call.doubt_elsewhere and reason is not Reason.INVALID_RECIPIENT:
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, response)
        return self._final(call, Status.FAILED, reason, response)

    def _again_if_allowed(self, call: Call, outcome: TryLater) -> Settled:
        policy = self.settings.retry
        if retry.is_exhausted(policy, attempt=call.tries, outcome=outcome):
            return self._given_up(call, Reason.RETRIES_EXHAUSTED, outcome.response)
        wait = retry.wait_seconds(
            policy, attempt=call.tries, after=outcome.after, source=self.source
        )
        ended = self._ended_before_the_next(call, outcome.response, wait)
        return ended or self._again(call, outcome.reason, outcome.response, wait)

    def _not_its_fault(self, call: Call, response: ProviderResponse) -> Settled:
        """Tried again however often, soon: by another provider, or when this one is put right, for
        until then nothing is taken up while no provider can be called."""
        wait = retry.wait_seconds(self.settings.retry, attempt=1, after=None, source=self.source)
        ended = self._ended_before_the_next(call, response, wait)
        return ended or self._again(call, Reason.ACCOUNT_FAULT, response, wait)

    def _ended_before_the_next(
        self, call: Call, response: ProviderResponse, wait: float
    ) -> Settled | None:
        """The end of a message whose next attempt would come too late; None where it would not."""
        message, now = call.delivery.message, self.clock()
        if retry.is_too_late(message.expires_at, now=now, wait=wait):
            return self._given_up(call, Reason.EXPIRED, response)
        if retry.is_past_deadline(self.settings.retry, message, now=now, wait=wait):
            return self._given_up(call, Reason.RETRIES_EXHAUSTED, response)
        return None

    def _given_up(self, call: Call, reason: Reason, response: ProviderResponse) -> Settled:
        """There is no further call. Where one was made before whose answer was lost, nobody knows
        whether the message went out: that its repetition was not made tells nothing."""
        if call.repeats_doubt:
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, TOO_LATE_TO_REPEAT)
        return self._final(call, Status.FAILED, reason, response)

    def _doubt(self, call: Call, response: ProviderResponse) -> Settled:
        """Repeated once at most: a person who was reached twice should not be reached six times."""
        resend_request = call.delivery.message.on_doubt or self.settings.on_doubt
        if resend_request is OnDoubt.HOLD or call.repeats_doubt:
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, response)
        wait = retry.wait_seconds(
            self.settings.retry, attempt=call.tries, after=None, source=self.source
        )
        if retry.is_past_deadline(
            self.settings.retry, call.delivery.message, now=self.clock(), wait=wait
        ):
            return self._final(call, Status.UNKNOWN, Reason.AMBIGUOUS, response)
        return self._again(call, Reason.AMBIGUOUS, response, wait)

    def _again(
        self, call: Call, reason: Reason, response: ProviderResponse, wait: float
    ) -> Settled:
        return self._settled(call, Status.SENDING, reason, response, wait=wait)

    def _final(
        self, call: Call, status: Status, reason: Reason, response: ProviderResponse
    ) -> Settled:
        return self._settled(call, status, reason, response, wait=None)

    def _settled(
        self,
        call: Call,
        status: Status,
        reason: Reason,
        response: ProviderResponse,
        *,
        wait: float | None,
    ) -> Settled:
        now = self.clock()
        row = Settlement(
            delivery=call.delivery,
            attempt=call.attempt,
            status=status,
            reason=reason,
            response=response,
            occurred_at=now,
            retry_after=wait,
            is_resend=call.cycle_start > 1,
        )
        return Settled(row, announcement(row, call.provider))


def _with_invalid_recipients(
    settled: Settled, call: Call, invalid_recipients: tuple[str, ...]
) -> Settled:
    """A message that reached one device of several, and others are not there any more."""
    if not invalid_recipients:
        return settled
    row = replace(settled.row, invalid_recipients=invalid_recipients)
    told = events.devices_unregistered(
        call.delivery.message,
        attempt=row.attempt,
        provider=call.provider,
        at=row.occurred_at,
        response=row.response,
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
        response=entry.response,
        occurred_at=entry.occurred_at,
    )
    return announcement(row, entry.provider)


def announcement(row: Settlement, provider: str) -> StatusEvent:
    """The event of a settled attempt."""
    message, at = row.delivery.message, row.occurred_at
    match row.status:
        case Status.SENT:
            return events.accepted(
                message, attempt=row.attempt, provider=provider, at=at, response=row.response
            )
        case Status.UNKNOWN:
            return events.in_doubt(
                message, attempt=row.attempt, provider=provider, at=at, response=row.response
            )
        case Status.SENDING:
            return events.deferred(
                message,
                attempt=row.attempt,
                provider=provider,
                at=at,
                reason=row.reason,
                response=row.response,
            )
        case _:
            return events.failed(
                message,
                reason=row.reason,
                at=at,
                attempt=row.attempt,
                provider=provider,
                response=row.response,
            )
