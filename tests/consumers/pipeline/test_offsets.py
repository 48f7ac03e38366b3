"""The offset tracker, case by case; `tests.properties` has what holds in general."""

from consumers.ledger.delivery import Offset
from consumers.pipeline.offsets import OffsetTracker

PARTITION = ("comms.sms", 3)


def tracker_with(count: int) -> tuple[OffsetTracker, list[Offset]]:
    """Return a tracker that has fetched offsets 10, 11, …"""
    tracker = OffsetTracker()
    tracker.assign([PARTITION])
    sources = [tracker.track(PARTITION, 10 + number, 0) for number in range(count)]
    return tracker, [source for source in sources if source is not None]


def test_a_completion_from_before_a_rebalance_is_dropped() -> None:
    tracker, sources = tracker_with(2)
    tracker.forget([PARTITION])
    tracker.assign([PARTITION])
    refetched = tracker.track(PARTITION, 10, 0)
    tracker.mark_done(sources[0])
    assert tracker.offsets_to_commit() == {}
    assert refetched is not None
    tracker.mark_done(refetched)
    assert tracker.offsets_to_commit() == {PARTITION: 11}


def test_a_record_that_is_done_twice_counts_once() -> None:
    tracker, sources = tracker_with(2)
    for _ in range(2):
        tracker.mark_done(sources[0])
    assert tracker.count_open() == 1
    assert tracker.offsets_to_commit() == {PARTITION: 11}


def test_an_offset_is_committed_once() -> None:
    tracker, sources = tracker_with(1)
    tracker.mark_done(sources[0])
    tracker.mark_committed(tracker.offsets_to_commit())
    assert tracker.offsets_to_commit() == {}


def test_a_leaving_partition_has_nothing_current_and_still_commits() -> None:
    tracker, sources = tracker_with(2)
    tracker.revoke([PARTITION])
    assert not tracker.is_current(sources[0])
    tracker.mark_done(sources[0])
    assert tracker.offsets_to_commit() == {PARTITION: 11}


def test_a_new_log_shares_no_offset_with_the_former_log() -> None:
    tracker, sources = tracker_with(3)
    tracker.restart(PARTITION)
    refetched = tracker.track(PARTITION, 10, 0)
    tracker.mark_done(sources[0])
    assert tracker.offsets_to_commit() == {}
    assert all(tracker.is_current(source) for source in sources)  # and are still to be delivered
    assert refetched is not None
    tracker.mark_done(refetched)
    assert tracker.offsets_to_commit() == {PARTITION: 11}
    tracker.revoke([PARTITION])
    assert not tracker.is_current(sources[1])
