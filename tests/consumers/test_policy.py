"""Lanes, verdicts, retries and settlements: the decisions, with a clock and a ledger passed in."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from comms.settings import ChannelSettings, RetryPolicy
from consumers.delivery import Delivery, Lease, Offset
from consumers.lanes import Lanes
from consumers.outcomes import Accepted, Ambiguous, Outcome, Refused, TryLater
from consumers.retry import wait_seconds
from consumers.settlement import Call, Settled, Settler
from consumers.verdicts import Begin, Hold, LedgerEntry, Repeat, StepAside, Verdict, decide
from schemas.events import SILENCE
from schemas.vocabulary import OnDoubt, Reason, Status
from tests.consumers.harness import sms

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FROM_TOPIC = Offset(("comms.sms", 0), 1, 1)
FROM_QUEUE = Lease(uuid4())
TO = "+12025550199"


def delivery(to: str = "+12025550199", **changes: object) -> Delivery:
    """A delivery from the topic."""
    return Delivery(sms(to, **changes), b"", FROM_TOPIC)


def entry(status: Status | None, reason: Reason | None = None, age: float = 0.0) -> LedgerEntry:
    """What the ledger holds: attempt 1, claimed `age` seconds ago."""
    return LedgerEntry(
        attempt=1,
        provider="p",
        age_seconds=age,
        status=status,
        reason=reason,
        occurred_at=NOW if status else None,
        words=SILENCE,
    )


def verdict(known: LedgerEntry, wanted: Delivery, *, on_doubt: OnDoubt = OnDoubt.RESEND) -> Verdict:
    """The decision, with doubt after 25 s and six attempts."""
    return decide(known, wanted, on_doubt=on_doubt, doubt_after=25.0, most=6)


def test_what_is_discarded_leaves_the_rest_in_order() -> None:
    lanes = Lanes()
    unwanted, kept = delivery(), delivery()
    for item in (unwanted, kept):
        lanes.add(item)
    assert lanes.discard(lambda d: d is unwanted) == [unwanted]
    assert lanes.take(5) == [kept]


def test_a_settled_message_is_announced_again_and_not_sent() -> None:
    known = entry(Status.SENT, Reason.ACCEPTED)
    assert verdict(known, delivery()) == Repeat(known)


def test_a_deferred_message_is_left_to_the_queue_and_sent_from_it() -> None:
    known = entry(Status.SENDING, Reason.PROVIDER_ERROR)
    assert verdict(known, delivery()) == Repeat(known)
    assert verdict(known, replace(delivery(), source=FROM_QUEUE)) == Begin(2)


def test_a_call_that_may_still_run_is_waited_for() -> None:
    assert verdict(entry(None, age=5.0), delivery()) == StepAside(20.0)


def test_a_lost_call_is_repeated_or_held_as_the_sender_says() -> None:
    lost = entry(None, age=26.0)
    assert verdict(lost, delivery()) == Begin(2, Reason.AMBIGUOUS, "p")
    assert verdict(lost, delivery(), on_doubt=OnDoubt.HOLD) == Hold(1, "p")
    assert verdict(lost, delivery(on_doubt=OnDoubt.HOLD)) == Hold(1, "p")


def test_the_repetition_of_a_lost_call_is_not_repeated_when_it_is_lost_too() -> None:
    lost_twice = replace(entry(None, age=26.0), attempt=2, in_doubt_with="p")
    assert verdict(lost_twice, delivery()) == Hold(2, "p")


def test_a_repetition_that_was_refused_for_the_moment_stays_the_repetition() -> None:
    """By the provider that may know the call from the first time."""
    refused = entry(Status.SENDING, Reason.PROVIDER_ERROR)
    known = replace(refused, attempt=2, in_doubt_with="another")
    wanted = replace(delivery(), source=FROM_QUEUE)
    assert verdict(known, wanted) == Begin(3, Reason.AMBIGUOUS, "another")


@given(st.integers(1, 60), st.floats(0, 100), st.none() | st.floats(0, 1000))
def test_waits_stay_within_their_bounds(attempt: int, base: float, after: float | None) -> None:
    policy = RetryPolicy(base_seconds=base, cap_seconds=300)
    wait = wait_seconds(policy, attempt=attempt, after=after, source=random.Random(1))
    assert (after or 0) <= wait <= (after or 0) + 300


def settled(outcome: Outcome, *, attempt: int = 1, **changes: object) -> Settled:
    """What a settler with three attempts makes of an outcome."""
    settings = ChannelSettings(retry=RetryPolicy(attempts=3, base_seconds=10))
    settler = Settler(settings, lambda: NOW, random.Random(1))
    return settler.settle(
        Call(delivery=delivery(TO, **changes), attempt=attempt, provider="p"), outcome
    )


def test_outcomes_become_statuses() -> None:
    assert settled(Accepted()).event.status is Status.SENT
    refused = settled(Refused(reason=Reason.INVALID_RECIPIENT)).event
    assert (refused.status, refused.reason) == (Status.FAILED, Reason.INVALID_RECIPIENT)


def test_a_refusal_for_the_moment_is_queued_until_attempts_run_out() -> None:
    later = TryLater(reason=Reason.PROVIDER_ERROR)
    assert settled(later).row.retry_after is not None
    last = settled(later, attempt=3)
    assert (last.row.retry_after, last.event.reason) == (None, Reason.RETRIES_EXHAUSTED)


def test_waiting_for_a_rate_limit_burns_no_attempt() -> None:
    limited = TryLater(reason=Reason.RATE_LIMITED, after=2.0)
    wait = settled(limited, attempt=3).row.retry_after
    assert wait is not None
    assert wait >= 2.0


def test_nothing_is_tried_past_its_expiry() -> None:
    later = TryLater(reason=Reason.PROVIDER_ERROR, after=60.0)
    found = settled(later, created_at=NOW, expires_at=NOW + timedelta(seconds=30))
    assert (found.event.status, found.event.reason) == (Status.FAILED, Reason.EXPIRED)


def test_doubt_is_repeated_once_or_held() -> None:
    assert settled(Ambiguous()).row.retry_after is not None
    assert settled(Ambiguous(), on_doubt=OnDoubt.HOLD).event.status is Status.UNKNOWN
