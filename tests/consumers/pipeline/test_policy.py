"""Recipient queues, claim decisions, retries and settlements; the tests pass in the clock."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comms.platform.settings import ChannelSettings, RetryPolicy
from consumers.ledger.decisions import (
    RECHECK_SECONDS,
    AlreadySettled,
    AttemptHistory,
    Begin,
    ClaimDecision,
    Defer,
    HoldUnknown,
    LedgerEntry,
    decide,
)
from consumers.ledger.delivery import Delivery, Lease, Offset
from consumers.pipeline.recipient_queues import RecipientQueues
from consumers.pipeline.retry import is_past_deadline, wait_seconds
from consumers.pipeline.settlement import Call, SettledAttempt, Settler
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused, TryLater
from consumers.sdk.provider import Attempt
from schemas.events import NO_RESPONSE
from schemas.vocabulary import OnDoubt, Reason, Status, SuppressionReason
from tests.consumers.harness import sms

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FROM_TOPIC = Offset(("comms.sms", 0), 1, 1)
FROM_QUEUE = Lease(uuid4())
TO = "+12025550199"


def delivery(to: str = "+12025550199", **changes: object) -> Delivery:
    """A delivery from the topic."""
    return Delivery(sms(to, **changes), b"", FROM_TOPIC)


def requested() -> Delivery:
    """A delivery for a resend request."""
    return replace(delivery(), source=Lease(uuid4(), uuid4()))


def entry(
    status: Status | None, reason: Reason | None = None, age: float = 0.0, attempt: int = 1
) -> LedgerEntry:
    """The ledger's entry of an attempt that was claimed `age` seconds ago."""
    return LedgerEntry(
        attempt=attempt,
        provider="p",
        age_seconds=age,
        status=status,
        reason=reason,
        occurred_at=NOW if status else None,
        response=NO_RESPONSE,
    )


def decision_on(
    newest: LedgerEntry,
    item: Delivery,
    *,
    on_doubt: OnDoubt = OnDoubt.RESEND,
    cycle_start: int = 1,
    resend_request: LedgerEntry | None = None,
) -> ClaimDecision:
    """The decision, with doubt after 25 s and six attempts."""
    history = AttemptHistory(newest=newest, cycle_start=cycle_start, resend_request=resend_request)
    return decide(history, item, on_doubt=on_doubt, doubt_after=25.0, max_attempts=6)


def test_discarding_keeps_the_rest_in_order() -> None:
    queues = RecipientQueues()
    unwanted, kept = delivery(), delivery()
    for item in (unwanted, kept):
        queues.add(item)
    assert queues.discard(lambda d: d is unwanted) == [unwanted]
    assert queues.take(5) == [kept]


def test_a_settled_message_is_published_again_and_not_sent() -> None:
    settled_entry = entry(Status.SENT, Reason.ACCEPTED)
    assert decision_on(settled_entry, delivery()) == AlreadySettled(settled_entry)


def test_a_deferred_message_is_left_to_the_queue_and_sent_from_it() -> None:
    settled_entry = entry(Status.SENDING, Reason.PROVIDER_ERROR)
    assert decision_on(settled_entry, delivery()) == AlreadySettled(settled_entry)
    assert decision_on(settled_entry, replace(delivery(), source=FROM_QUEUE)) == Begin(2)


def test_a_message_whose_call_may_still_run_is_deferred() -> None:
    assert decision_on(entry(None, age=5.0), delivery()) == Defer(20.0)


def test_a_lost_call_is_repeated_or_held_by_on_doubt() -> None:
    lost = entry(None, age=26.0)
    assert decision_on(lost, delivery()) == Begin(2, Reason.AMBIGUOUS, "p")
    assert decision_on(lost, delivery(), on_doubt=OnDoubt.HOLD) == HoldUnknown(1, "p")
    assert decision_on(lost, delivery(on_doubt=OnDoubt.HOLD)) == HoldUnknown(1, "p")


@pytest.mark.parametrize(
    "newest",
    [
        entry(Status.FAILED, Reason.RETRIES_EXHAUSTED, attempt=8),
        entry(Status.SENT, Reason.ACCEPTED, attempt=8),
        entry(Status.SENDING, Reason.PROVIDER_ERROR, attempt=8),
    ],
)
def test_a_resend_request_begins_another_attempt_of_a_settled_message(newest: LedgerEntry) -> None:
    expected = Begin(9, Reason.RESENT, cycle_start=9, idempotency_attempt=9)
    assert decision_on(newest, requested(), cycle_start=3) == expected


def test_a_resend_of_a_call_in_doubt_goes_to_the_provider_that_may_know_it() -> None:
    newest = entry(Status.UNKNOWN, Reason.AMBIGUOUS, attempt=2)
    assert decision_on(newest, requested()) == Begin(
        3, Reason.RESENT, "p", cycle_start=3, idempotency_attempt=1
    )


def test_a_resend_request_is_carried_out_once() -> None:
    made = entry(Status.SENDING, Reason.PROVIDER_ERROR, attempt=2)
    assert decision_on(made, requested(), resend_request=made) == AlreadySettled(made)
    assert decision_on(entry(None, attempt=3), requested(), resend_request=made) == AlreadySettled(
        made
    )


def test_a_resend_request_waits_for_an_unsettled_call() -> None:
    assert decision_on(entry(None, age=5.0), requested()) == Defer(20.0)
    assert decision_on(entry(None, age=90.0), requested()) == Defer(RECHECK_SECONDS)


def test_a_lost_call_of_a_resend_is_in_doubt_like_any_other() -> None:
    cut_off = entry(None, age=90.0, attempt=4)
    expected = Begin(5, Reason.AMBIGUOUS, "p", cycle_start=4, idempotency_attempt=4)
    assert decision_on(cut_off, requested(), cycle_start=4, resend_request=cut_off) == expected


def test_a_cancelled_message_is_not_sent() -> None:
    cancelled = entry(Status.CANCELLED, Reason.CANCELLED, attempt=2)
    assert decision_on(cancelled, requested()) == AlreadySettled(cancelled)
    assert decision_on(cancelled, replace(delivery(), source=FROM_QUEUE)) == AlreadySettled(
        cancelled
    )


def test_attempts_count_from_the_start_of_the_send_cycle() -> None:
    lost = entry(None, age=26.0, attempt=8)
    assert isinstance(decision_on(lost, delivery(), cycle_start=3), HoldUnknown)
    assert isinstance(decision_on(lost, delivery(), cycle_start=4), Begin)


def test_a_lost_repetition_is_not_repeated_again() -> None:
    lost_twice = replace(entry(None, age=26.0), attempt=2, in_doubt_with="p")
    assert decision_on(lost_twice, delivery()) == HoldUnknown(2, "p")


def test_a_repetition_that_is_retried_stays_the_repetition() -> None:
    """It goes to the provider that may know the first call."""
    refused = entry(Status.SENDING, Reason.PROVIDER_ERROR)
    repetition = replace(refused, attempt=2, in_doubt_with="another")
    item = replace(delivery(), source=FROM_QUEUE)
    assert decision_on(repetition, item) == Begin(3, Reason.AMBIGUOUS, "another")


@given(st.integers(1, 60), st.floats(0, 100), st.none() | st.floats(0, 1000))
def test_waits_stay_within_their_bounds(attempt: int, base: float, after: float | None) -> None:
    policy = RetryPolicy(base_seconds=base, cap_seconds=300)
    wait = wait_seconds(policy, attempt=attempt, after=after, source=random.Random(1))
    assert (after or 0) <= wait <= (after or 0) + 300


def settle(
    outcome: Outcome,
    *,
    attempt: int = 1,
    cycle_start: int = 1,
    doubt: bool = False,
    **changes: object,
) -> SettledAttempt:
    """Settle an outcome by a policy with three attempts."""
    settings = ChannelSettings(retry=RetryPolicy(attempts=3, base_seconds=10))
    settler = Settler(settings, lambda: NOW, random.Random(1))
    call = Call(
        delivery=delivery(TO, **changes),
        attempt=attempt,
        provider="p",
        cycle_start=cycle_start,
        repeats_doubt=doubt,
    )
    return settler.settle(call, outcome)


@given(
    deadline=st.floats(1, 1000),
    age=st.floats(0, 2000),
    after=st.none() | st.floats(0, 2000),
    scheduled=st.booleans(),
)
def test_no_attempt_begins_past_the_deadline(
    deadline: float, age: float, *, after: float | None, scheduled: bool
) -> None:
    policy = RetryPolicy(base_seconds=10, deadline_seconds=deadline)
    due = NOW - timedelta(seconds=age)
    created = due - timedelta(days=1) if scheduled else due
    item = delivery(TO, created_at=created, send_at=due if scheduled else None)
    call = Call(delivery=item, attempt=1, provider="p")
    settler = Settler(ChannelSettings(retry=policy), lambda: NOW, random.Random(1))
    later = settler.settle(call, TryLater(reason=Reason.PROVIDER_ERROR, after=after))
    if later.settlement.retry_after is None:
        assert later.event.reason is Reason.RETRIES_EXHAUSTED
        assert age + (after or 0) + 10 > deadline  # a wait of the longest jitter is past it
    else:
        starts_at = NOW + timedelta(seconds=later.settlement.retry_after)
        assert starts_at <= due + timedelta(seconds=deadline, microseconds=1)
    ending = settler.end_if_too_late(call)
    assert (ending is not None) == is_past_deadline(policy, item.message, now=NOW)


def test_past_the_deadline_doubt_is_unknown_and_a_resend_is_sent() -> None:
    settings = ChannelSettings(retry=RetryPolicy(deadline_seconds=60))
    settler = Settler(settings, lambda: NOW, random.Random(1))
    call = Call(
        delivery=delivery(TO, created_at=NOW - timedelta(seconds=61)), attempt=2, provider="p"
    )
    ending = settler.end_if_too_late(call)
    assert ending is not None
    assert (ending.event.status, ending.event.reason) == (Status.FAILED, Reason.RETRIES_EXHAUSTED)
    repetition = replace(call, reason=Reason.AMBIGUOUS, repeats_doubt=True)
    in_doubt = settler.end_if_too_late(repetition)
    assert in_doubt is not None
    assert in_doubt.event.status is Status.UNKNOWN
    assert settler.settle(call, Ambiguous()).event.status is Status.UNKNOWN
    limited = TryLater(reason=Reason.RATE_LIMITED)
    assert settler.settle(repetition, limited).event.status is Status.UNKNOWN, (
        "the first call may have been carried out"
    )
    assert settler.end_if_too_late(replace(call, reason=Reason.RESENT)) is None


def test_without_a_deadline_no_message_is_too_old() -> None:
    item = delivery(TO, created_at=NOW - timedelta(days=300))
    assert not is_past_deadline(RetryPolicy(), item.message, now=NOW, wait=1e9)


def test_outcomes_become_statuses() -> None:
    assert settle(Accepted()).event.status is Status.SENT
    refused = settle(Refused(reason=Reason.INVALID_RECIPIENT)).event
    assert (refused.status, refused.reason) == (Status.FAILED, Reason.INVALID_RECIPIENT)


def test_a_temporary_error_is_retried_until_attempts_run_out() -> None:
    later = TryLater(reason=Reason.PROVIDER_ERROR)
    assert settle(later).settlement.retry_after is not None
    last = settle(later, attempt=3)
    assert (last.settlement.retry_after, last.event.reason) == (None, Reason.RETRIES_EXHAUSTED)


def test_a_resend_has_the_attempts_of_a_new_message() -> None:
    later = TryLater(reason=Reason.PROVIDER_ERROR)
    assert settle(later, attempt=5, cycle_start=4).settlement.retry_after is not None
    assert settle(later, attempt=6, cycle_start=4).event.reason is Reason.RETRIES_EXHAUSTED


def test_a_resend_has_another_idempotency_key_than_a_repetition() -> None:
    message_id = uuid4()
    first, repeated = Attempt(message_id, 1), Attempt(message_id, 2)
    assert first.idempotency_key == repeated.idempotency_key
    assert Attempt(message_id, 3, idempotency_attempt=3).idempotency_key != first.idempotency_key


def test_account_errors_use_up_no_attempt() -> None:
    blocked = settle(AccountError(), attempt=400)
    assert (blocked.event.status, blocked.event.reason) == (Status.SENDING, Reason.ACCOUNT_FAULT)
    assert blocked.settlement.retry_after is not None
    begin = Begin(4, uncounted_attempts=2)
    assert Call.from_decision(begin, delivery(), "p").counted_attempts == 2
    history = AttemptHistory(
        newest=entry(Status.SENDING, Reason.ACCOUNT_FAULT, attempt=9), uncounted_attempts=8
    )
    assert history.counted_attempts == 1


def test_an_account_error_is_not_retried_past_expiry() -> None:
    result = settle(AccountError(), created_at=NOW, expires_at=NOW)
    assert result.event.reason is Reason.EXPIRED


def test_a_refusal_may_suppress_the_recipient() -> None:
    refused = Refused(reason=Reason.SUPPRESSED, suppress=SuppressionReason.OPT_OUT)
    assert settle(refused).settlement.suppress is SuppressionReason.OPT_OUT
    assert settle(Refused(reason=Reason.REJECTED)).settlement.suppress is None


def test_waiting_for_a_rate_limit_uses_up_no_attempt() -> None:
    limited = TryLater(reason=Reason.RATE_LIMITED, after=2.0)
    wait = settle(limited, attempt=3).settlement.retry_after
    assert wait is not None
    assert wait >= 2.0


def test_no_retry_after_expiry() -> None:
    later = TryLater(reason=Reason.PROVIDER_ERROR, after=60.0)
    result = settle(later, created_at=NOW, expires_at=NOW + timedelta(seconds=30))
    assert (result.event.status, result.event.reason) == (Status.FAILED, Reason.EXPIRED)


@pytest.mark.parametrize(
    ("reason", "elsewhere", "status"),
    [
        (Reason.REJECTED, True, Status.UNKNOWN),
        (Reason.SUPPRESSED, True, Status.UNKNOWN),
        (Reason.INVALID_RECIPIENT, True, Status.FAILED),
        (Reason.REJECTED, False, Status.FAILED),
    ],
)
def test_a_refusal_by_another_provider_does_not_settle_a_call_in_doubt(
    reason: Reason, elsewhere: bool, status: Status
) -> None:
    begin = Begin(2, Reason.AMBIGUOUS, "p")
    call = Call.from_decision(begin, delivery(), "another" if elsewhere else "p")
    settler = Settler(ChannelSettings(), lambda: NOW, random.Random(1))
    assert settler.settle(call, Refused(reason=reason)).event.status is status


def test_an_ambiguous_call_is_repeated_once_or_held() -> None:
    assert settle(Ambiguous()).settlement.retry_after is not None
    assert settle(Ambiguous(), on_doubt=OnDoubt.HOLD).event.status is Status.UNKNOWN
    assert settle(Ambiguous(), doubt=True).event.status is Status.UNKNOWN
