"""When receipts are polled: at ages that double, none missed, none twice."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from consumers.receipts.poller import PIECE, Span, find_due_spans, wait_after_error
from consumers.sdk.receipt_polling import PollSchedule, ReceiptPollError
from consumers.sdk.receipt_stream import ReceiptNotStoredError

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SCHEDULE = PollSchedule(ready_after=timedelta(minutes=15), kept_for=timedelta(hours=23))


def test_the_first_poll_covers_everything_that_the_provider_keeps() -> None:
    since = NOON - SCHEDULE.kept_for
    assert find_due_spans(since, NOON, SCHEDULE) == [Span(since, NOON - timedelta(minutes=15))]


def test_a_span_is_split_without_gaps() -> None:
    whole = Span(NOON - timedelta(minutes=25), NOON)
    pieces = list(whole.split())
    assert (pieces[0].begin, pieces[-1].end) == (whole.begin, whole.end)
    assert all(earlier.end == later.begin for earlier, later in pairwise(pieces))
    assert {piece.end - piece.begin for piece in pieces} == {PIECE, timedelta(minutes=5)}


def test_a_message_is_due_at_ages_that_double() -> None:
    polls = [NOON + timedelta(minutes=n) for n in range(60 * 26)]
    at = NOON + timedelta(seconds=30)
    ages = [
        (now - at).total_seconds() / 60
        for since, now in pairwise(polls)
        if any(span.begin < at <= span.end for span in find_due_spans(since, now, SCHEDULE))
    ]
    assert [int(age) for age in ages] == [15, 30, 60, 120, 240, 480, 960]


def test_after_a_delayed_poll_no_message_is_missed_or_due_twice() -> None:
    since, now = NOON, NOON + timedelta(minutes=50)
    spans = find_due_spans(since, now, SCHEDULE)
    assert all(earlier.end < later.begin for earlier, later in pairwise(spans))
    for minutes in range(60 * 24):
        at = now - timedelta(minutes=minutes)
        due = any(since < at + age <= now for age in SCHEDULE.moments)
        expected = due and now - at < SCHEDULE.kept_for
        assert any(span.begin < at <= span.end for span in spans) is expected, minutes


def test_a_provider_that_does_not_answer_is_polled_less_often() -> None:
    waits = [60.0]
    for _ in range(5):
        waits.append(wait_after_error(ReceiptPollError("no answer"), waits[-1]))
    assert waits == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]
    assert wait_after_error(ReceiptPollError("slow down", after=3600.0), 60.0) == 3600.0
    assert wait_after_error(ReceiptPollError("slow down", after=5.0), 60.0) == 120.0
    assert wait_after_error(ReceiptNotStoredError("no broker"), 900.0) == 900.0
