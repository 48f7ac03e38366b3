"""The watermark, case by case; what holds of all of them is in `tests.properties`."""

from consumers.ledger.delivery import Offset
from consumers.pipeline.offsets import OffsetTracker

PLACE = ("comms.sms", 3)


def fetched(count: int) -> tuple[OffsetTracker, list[Offset]]:
    """A watermark that saw offsets 10, 11, …"""
    watermark = OffsetTracker()
    watermark.assign([PLACE])
    sources = [watermark.track(PLACE, 10 + number, 0) for number in range(count)]
    return watermark, [source for source in sources if source is not None]


def test_a_completion_from_before_a_rebalance_is_dropped() -> None:
    watermark, sources = fetched(2)
    watermark.forget([PLACE])
    watermark.assign([PLACE])
    again = watermark.track(PLACE, 10, 0)
    watermark.mark_done(sources[0])
    assert watermark.offsets_to_commit() == {}
    assert again is not None
    watermark.mark_done(again)
    assert watermark.offsets_to_commit() == {PLACE: 11}


def test_what_is_reported_done_twice_counts_once() -> None:
    watermark, sources = fetched(2)
    for _ in range(2):
        watermark.mark_done(sources[0])
    assert watermark.count_open() == 1
    assert watermark.offsets_to_commit() == {PLACE: 11}


def test_what_is_committed_is_not_committed_again() -> None:
    watermark, sources = fetched(1)
    watermark.mark_done(sources[0])
    watermark.mark_committed(watermark.offsets_to_commit())
    assert watermark.offsets_to_commit() == {}


def test_a_leaving_partition_has_nothing_current_and_still_commits() -> None:
    watermark, sources = fetched(2)
    watermark.revoke([PLACE])
    assert not watermark.is_current(sources[0])
    watermark.mark_done(sources[0])
    assert watermark.offsets_to_commit() == {PLACE: 11}


def test_a_log_that_begins_anew_shares_no_offset_with_the_former_one() -> None:
    watermark, sources = fetched(3)
    watermark.restart(PLACE)
    again = watermark.track(PLACE, 10, 0)
    watermark.mark_done(sources[0])
    assert watermark.offsets_to_commit() == {}
    assert all(watermark.is_current(source) for source in sources)  # and still to be processed
    assert again is not None
    watermark.mark_done(again)
    assert watermark.offsets_to_commit() == {PLACE: 11}
    watermark.revoke([PLACE])
    assert not watermark.is_current(sources[1])
