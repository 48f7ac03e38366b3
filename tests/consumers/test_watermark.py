"""The watermark never commits past something unsettled, whatever the order of completion."""

from hypothesis import given
from hypothesis import strategies as st

from consumers.delivery import Offset
from consumers.watermark import Watermark

PLACE = ("comms.sms", 3)


def fetched(count: int) -> tuple[Watermark, list[Offset]]:
    """A watermark that saw offsets 10, 11, …"""
    watermark = Watermark()
    watermark.assign([PLACE])
    sources = [watermark.fetched(PLACE, 10 + number, 0) for number in range(count)]
    return watermark, [source for source in sources if source is not None]


@given(st.data(), st.integers(1, 30))
def test_only_what_is_below_everything_unsettled_is_committed(
    data: st.DataObject, count: int
) -> None:
    watermark, sources = fetched(count)
    settled: set[int] = set()
    for source in data.draw(st.permutations(sources)):
        watermark.done(source)
        settled.add(source.offset)
        first_open = next((n for n in range(10, 10 + count) if n not in settled), 10 + count)
        expected = {PLACE: first_open} if first_open > 10 else {}
        assert watermark.to_commit() == expected
        assert watermark.open() == count - len(settled)


@given(st.sets(st.integers(0, 19)), st.integers(0, 19))
def test_nothing_is_committed_past_what_was_given_up(done: set[int], given_up: int) -> None:
    watermark, sources = fetched(20)
    watermark.abandoned(sources[given_up])
    for number in done - {given_up}:
        watermark.done(sources[number])
    assert watermark.to_commit().get(PLACE, 10) <= 10 + given_up


def test_a_completion_from_before_a_rebalance_is_dropped() -> None:
    watermark, sources = fetched(2)
    watermark.forget([PLACE])
    watermark.assign([PLACE])
    again = watermark.fetched(PLACE, 10, 0)
    watermark.done(sources[0])
    assert watermark.to_commit() == {}
    assert again is not None
    watermark.done(again)
    assert watermark.to_commit() == {PLACE: 11}


def test_what_is_reported_done_twice_counts_once() -> None:
    watermark, sources = fetched(2)
    for _ in range(2):
        watermark.done(sources[0])
    assert watermark.open() == 1
    assert watermark.to_commit() == {PLACE: 11}


def test_what_is_committed_is_not_committed_again() -> None:
    watermark, sources = fetched(1)
    watermark.done(sources[0])
    watermark.committed(watermark.to_commit())
    assert watermark.to_commit() == {}


def test_a_leaving_partition_has_nothing_current_and_still_commits() -> None:
    watermark, sources = fetched(2)
    watermark.revoke([PLACE])
    assert not watermark.is_current(sources[0])
    watermark.done(sources[0])
    assert watermark.to_commit() == {PLACE: 11}
