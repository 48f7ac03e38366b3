"""When messages are asked about: at ages that double, none missed, none twice."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from consumers.receipts.poller import PIECE, Span, find_due_spans, wait_after_error
from consumers.sdk.receipt_polling import PollSchedule, ReceiptPollError
from consumers.sdk.receipt_stream import ReceiptNotStoredError

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
KEEPING = PollSchedule(ready_after=timedelta(minutes=15), kept_for=timedelta(hours=23))


def test_a_first_look_covers_all_that_the_provider_keeps() -> None:
    since = NOON - KEEPING.kept_for
    assert find_due_spans(since, NOON, KEEPING) == [Span(since, NOON - timedelta(minutes=15))]


def test_a_span_is_the_sum_of_its_pieces() -> None:
    whole = Span(NOON - timedelta(minutes=25), NOON)
    pieces = list(whole.split())
    assert (pieces[0].begin, pieces[-1].end) == (whole.begin, whole.end)
    assert all(one.end == other.begin for one, other in pairwise(pieces))
    assert {piece.end - piece.begin for piece in pieces} == {PIECE, timedelta(minutes=5)}


def test_a_message_is_asked_about_at_ages_that_double() -> None:
    looks = [NOON + timedelta(minutes=n) for n in range(60 * 26)]
    at = NOON + timedelta(seconds=30)
    ages = [
        (now - at).total_seconds() / 60
        for since, now in pairwise(looks)
        if any(span.begin < at <= span.end for span in find_due_spans(since, now, KEEPING))
    ]
    assert [int(age) for age in ages] == [15, 30, 60, 120, 240, 480, 960]


def test_however_long_a_look_was_put_off_none_is_missed_or_asked_about_twice() -> None:
    since, now = NOON, NOON + timedelta(minutes=50)
    found = find_due_spans(since, now, KEEPING)
    assert all(one.end < other.begin for one, other in pairwise(found))
    for minutes in range(60 * 24):
        at = now - timedelta(minutes=minutes)
        due = any(since < at + age <= now for age in KEEPING.moments)
        expected = due and now - at < KEEPING.kept_for
        assert any(span.begin < at <= span.end for span in found) is expected, minutes


def test_who_does_not_answer_is_asked_less_often_and_not_before_it_wants() -> None:
    waits = [60.0]
    for _ in range(5):
        waits.append(wait_after_error(ReceiptPollError("no answer"), waits[-1]))
    assert waits == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]
    assert wait_after_error(ReceiptPollError("slow down", after=3600.0), 60.0) == 3600.0
    assert wait_after_error(ReceiptPollError("slow down", after=5.0), 60.0) == 120.0
    assert wait_after_error(ReceiptNotStoredError("no broker"), 900.0) == 900.0
