"""A consumer: when it joins its group again, when it leaves it, and which topics were replaced."""

import json
from itertools import pairwise

from comms.platform.kafka.membership import (
    FIRST_IDLE_SECONDS,
    LONGEST_IDLE_SECONDS,
    QUIET_SECONDS,
    GroupState,
    IdleTimer,
    TopicIdTracker,
)


def test_a_member_without_partitions_joins_again_at_growing_intervals() -> None:
    now = 0.0
    idle_timer, rejoined_at = IdleTimer(lambda: now), []
    for second in range(3600):
        now = float(second)
        if idle_timer.is_rejoin_due(has_partitions=False):
            rejoined_at.append(second)
    waits = [after - before for before, after in pairwise(rejoined_at)]
    assert rejoined_at[0] == FIRST_IDLE_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_IDLE_SECONDS


def test_the_waiting_time_restarts_after_a_member_had_partitions() -> None:
    now = 0.0
    idle_timer = IdleTimer(lambda: now)
    now = 2 * FIRST_IDLE_SECONDS
    assert idle_timer.is_rejoin_due(has_partitions=False)
    assert not idle_timer.is_rejoin_due(has_partitions=True)
    now += FIRST_IDLE_SECONDS - 1
    assert not idle_timer.is_rejoin_due(has_partitions=False)
    now += 1
    assert idle_timer.is_rejoin_due(has_partitions=False)


def test_a_group_rebalances_until_its_state_is_steady() -> None:
    group = GroupState()
    for state, joining, is_rebalancing in (
        ("up", "wait-join", True),
        ("up", "wait-sync", True),
        ("up", "steady", False),
        ("query-coord", "init", False),
    ):
        group.on_statistics(json.dumps({"cgrp": {"state": state, "join_state": joining}}))
        assert group.is_rebalancing == is_rebalancing
    assert group.report_count == 4


def test_a_group_is_stable_only_after_a_quiet_time() -> None:
    now = 100.0
    group = GroupState(lambda: now)
    group.on_partitions_moved()
    group.on_statistics(json.dumps({"cgrp": {"state": "up", "join_state": "steady"}}))
    assert not group.is_stable(since=0)
    now += QUIET_SECONDS
    assert group.is_stable(since=0)
    assert not group.is_stable(since=1), "there was no newer report"


def test_a_topic_that_was_created_again_is_reported_once() -> None:
    ids = {"a": "1", "b": "1"}
    tracker = TopicIdTracker(lambda topics: {topic: ids[topic] for topic in topics}, ["a", "b"])
    assert (tracker.is_stale, tracker.find_replaced(), tracker.is_stale) == (
        True,
        frozenset(),
        False,
    )
    ids["b"] = "2"
    tracker.mark_stale()
    assert tracker.find_replaced() == {"b"}
    assert tracker.find_replaced() == frozenset()
