"""Decides what the outcome of a call means for its message.

The dispatcher's parts pass every outcome to a `Settler`. By the channel's policy the message is
sent, failed, held as unknown or tried again. The `Settler` returns the ledger's row together with
the event to publish.
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
    """One attempt of `delivery` through `provider`.

    Args:
        repeats_doubt: it repeats a call whose answer was lost.
        doubt_elsewhere: that call was made through another provider.
        cycle_start, idempotency_attempt: as in `consumers.ledger.decisions.Begin`, and so are
            `uncounted_attempts` and `suppressed_recipients`.
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
    def counted_attempts(self) -> int:
        """The attempts of its send cycle, including this one, that count for the policy."""
        return self.attempt - self.cycle_start + 1 - self.uncounted_attempts

    @classmethod
    def from_decision(cls, begin: Begin, delivery: Delivery, provider: str) -> "Call":
        """Build the call that a decision asks for."""
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
class SettledAttempt:
    """A settlement for the ledger, and the event to publish.

    Args:
        preceding_event: another event to publish before it, if there is one.
    """

    settlement: Settlement
    event: StatusEvent
    preceding_event: StatusEvent | None = None


@dataclass(frozen=True, slots=True)
class Settler:
    """Applies a channel's policy to outcomes."""

    settings: ChannelSettings
    clock: Clock = utc_now
    source: random.Random = field(default_factory=random.Random)

    def settle(self, call: Call, outcome: Outcome) -> SettledAttempt:
        """Decide what the outcome of a call means for its message."""
        match outcome:
            case Accepted(response=response, invalid_recipients=invalid_recipients):
                settled = self._finish(call, Status.SENT, Reason.ACCEPTED, response)
                return _with_invalid_recipients(settled, call, invalid_recipients)
            case Refused():
                return self._settle_refusal(call, outcome)
            case TryLater():
                return self._retry_if_allowed(call, outcome)
            case AccountError(response=response):
                return self._settle_account_error(call, response)
            case Ambiguous(response=response):
                return self._settle_ambiguous(call, response)
            case _:
                assert_never(outcome)

    def end_if_too_late(self, call: Call) -> SettledAttempt | None:
        """End a message whose call may not be made any more; None if it may be made.

        A resend gets an attempt after the policy's deadline too.
        """
        message, now = call.delivery.message, self.clock()
        if retry.is_too_late(message.expires_at, now=now, wait=0):
            return self._give_up(call, Reason.EXPIRED, events.NO_RESPONSE)
        if call.reason is Reason.RESENT or not retry.is_past_deadline(
            self.settings.retry, message, now=now
        ):
            return None
        return self._give_up(call, Reason.RETRIES_EXHAUSTED, PAST_DEADLINE)

    def end_without_provider(self, call: Call, why: str) -> SettledAttempt:
        """End a message that no provider takes; no call was made."""
        return self._give_up(call, Reason.NO_PROVIDER, ProviderResponse(detail=why))

    def suppress(self, call: Call, why: str) -> SettledAttempt:
        """End a message whose recipient is on the suppression list; no call was made."""
        return self._finish(call, Status.FAILED, Reason.SUPPRESSED, ProviderResponse(detail=why))

    def hold(self, delivery: Delivery, decision: HoldUnknown) -> SettledAttempt:
        """Hold a message as unknown: its worker was lost in the call, and it is not repeated."""
        call = Call(delivery=delivery, attempt=decision.attempt, provider=decision.provider)
        return self._finish(call, Status.UNKNOWN, Reason.AMBIGUOUS, IN_DOUBT)

    def _settle_refusal(self, call: Call, outcome: Refused) -> SettledAttempt:
        """Fail a message, or hold it as unknown.

        A message that this provider refuses may have been sent by another one before, in a call
        whose answer was lost. That cannot be so if the recipient does not exist.
        """
        in_doubt = call.doubt_elsewhere and outcome.reason is not Reason.INVALID_RECIPIENT
        status = Status.UNKNOWN if in_doubt else Status.FAILED
        reason = Reason.AMBIGUOUS if in_doubt else outcome.reason
        settled = self._finish(call, status, reason, outcome.response)
        settlement = replace(
            settled.settlement,
            suppress=outcome.suppress,
            invalid_recipients=outcome.invalid_recipients,
        )
        return replace(settled, settlement=settlement)

    def _retry_if_allowed(self, call: Call, outcome: TryLater) -> SettledAttempt:
        policy = self.settings.retry
        if retry.is_exhausted(policy, attempt=call.counted_attempts, outcome=outcome):
            return self._give_up(call, Reason.RETRIES_EXHAUSTED, outcome.response)
        wait = self._wait_seconds(attempt=call.counted_attempts, after=outcome.after)
        return self._retry(call, outcome.reason, outcome.response, wait)

    def _settle_account_error(self, call: Call, response: ProviderResponse) -> SettledAttempt:
        """Try again soon, however often.

        Another provider takes the message, or this one once its account is repaired. Until then
        nothing is claimed while no provider can be called.
        """
        return self._retry(call, Reason.ACCOUNT_FAULT, response, self._wait_seconds(attempt=1))

    def _settle_ambiguous(self, call: Call, response: ProviderResponse) -> SettledAttempt:
        """Repeat a call whose answer was lost, once at most, or hold the message as unknown.

        A person who received the message twice should not receive it six times.
        """
        on_doubt = call.delivery.message.on_doubt or self.settings.on_doubt
        if on_doubt is OnDoubt.HOLD or call.repeats_doubt:
            return self._finish(call, Status.UNKNOWN, Reason.AMBIGUOUS, response)
        wait = self._wait_seconds(attempt=call.counted_attempts)
        if retry.is_past_deadline(
            self.settings.retry, call.delivery.message, now=self.clock(), wait=wait
        ):
            return self._finish(call, Status.UNKNOWN, Reason.AMBIGUOUS, response)
        return self._build(call, Status.SENDING, Reason.AMBIGUOUS, response, wait=wait)

    def _wait_seconds(self, *, attempt: int, after: float | None = None) -> float:
        return retry.wait_seconds(
            self.settings.retry, attempt=attempt, after=after, source=self.source
        )

    def _retry(
        self, call: Call, reason: Reason, response: ProviderResponse, wait: float
    ) -> SettledAttempt:
        """Try again after `wait` seconds, or give up if that is too late."""
        message, now = call.delivery.message, self.clock()
        if retry.is_too_late(message.expires_at, now=now, wait=wait):
            return self._give_up(call, Reason.EXPIRED, response)
        if retry.is_past_deadline(self.settings.retry, message, now=now, wait=wait):
            return self._give_up(call, Reason.RETRIES_EXHAUSTED, response)
        return self._build(call, Status.SENDING, reason, response, wait=wait)

    def _give_up(self, call: Call, reason: Reason, response: ProviderResponse) -> SettledAttempt:
        """End a message without another call.

        If the answer to an earlier call was lost, the message may have gone out. That the call was
        not repeated does not change that, so the message is unknown.
        """
        if call.repeats_doubt:
            return self._finish(call, Status.UNKNOWN, Reason.AMBIGUOUS, TOO_LATE_TO_REPEAT)
        return self._finish(call, Status.FAILED, reason, response)

    def _finish(
        self, call: Call, status: Status, reason: Reason, response: ProviderResponse
    ) -> SettledAttempt:
        """Settle an attempt that no other follows."""
        return self._build(call, status, reason, response, wait=None)

    def _build(
        self,
        call: Call,
        status: Status,
        reason: Reason,
        response: ProviderResponse,
        *,
        wait: float | None,
    ) -> SettledAttempt:
        settlement = Settlement(
            delivery=call.delivery,
            attempt=call.attempt,
            status=status,
            reason=reason,
            response=response,
            occurred_at=self.clock(),
            retry_after=wait,
            is_resend=call.cycle_start > 1,
        )
        return SettledAttempt(settlement, build_event(settlement, call.provider))


def _with_invalid_recipients(
    settled: SettledAttempt, call: Call, invalid_recipients: tuple[str, ...]
) -> SettledAttempt:
    """Add the devices that do not exist any more, of a message that reached another device."""
    if not invalid_recipients:
        return settled
    settlement = replace(settled.settlement, invalid_recipients=invalid_recipients)
    event = events.devices_unregistered(
        call.delivery.message,
        attempt=settlement.attempt,
        provider=call.provider,
        at=settlement.occurred_at,
        response=settlement.response,
    )
    return replace(settled, settlement=settlement, preceding_event=event)


def rebuild_event(delivery: Delivery, entry: LedgerEntry) -> StatusEvent | None:
    """Build the event of a settled attempt again.

    Returns:
        The event. None for an attempt without an outcome, and for a cancelled message: the
        producer publishes its end.
    """
    if entry.status is None or entry.reason is None or entry.occurred_at is None:
        return None
    if entry.status is Status.CANCELLED:
        return None
    settlement = Settlement(
        delivery=delivery,
        attempt=entry.attempt,
        status=entry.status,
        reason=entry.reason,
        response=entry.response,
        occurred_at=entry.occurred_at,
    )
    return build_event(settlement, entry.provider)


def build_event(settlement: Settlement, provider: str) -> StatusEvent:
    """Build the event of a settled attempt."""
    message, at = settlement.delivery.message, settlement.occurred_at
    attempt, response = settlement.attempt, settlement.response
    match settlement.status:
        case Status.SENT:
            return events.accepted(
                message, attempt=attempt, provider=provider, at=at, response=response
            )
        case Status.UNKNOWN:
            return events.in_doubt(
                message, attempt=attempt, provider=provider, at=at, response=response
            )
        case Status.SENDING:
            return events.deferred(
                message,
                attempt=attempt,
                provider=provider,
                at=at,
                reason=settlement.reason,
                response=response,
            )
        case _:
            return events.failed(
                message,
                reason=settlement.reason,
                at=at,
                attempt=attempt,
                provider=provider,
                response=response,
            )
