"""What a consumer decides by what it knows of its group and its logs."""

import json
from itertools import pairwise

from comms.platform.kafka.membership import (
    FIRST_IDLE_SECONDS,
    LONGEST_IDLE_SECONDS,
    QUIET_SECONDS,
    GroupState,
    Idle,
    LogIdentity,
)


def test_a_member_without_partitions_joins_anew_ever_more_rarely() -> None:
    now = 0.0
    idle, joined = Idle(lambda: now), []
    for second in range(3600):
        now = float(second)
        if idle.is_too_long(has_partitions=False):
            joined.append(second)
    waits = [after - before for before, after in pairwise(joined)]
    assert joined[0] == FIRST_IDLE_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_IDLE_SECONDS


def test_having_had_partitions_the_patience_begins_anew() -> None:
    now = 0.0
    idle = Idle(lambda: now)
    now = 2 * FIRST_IDLE_SECONDS
    assert idle.is_too_long(has_partitions=False)
    assert not idle.is_too_long(has_partitions=True)
    now += FIRST_IDLE_SECONDS - 1
    assert not idle.is_too_long(has_partitions=False)
    now += 1
    assert idle.is_too_long(has_partitions=False)


def test_a_group_is_being_formed_until_it_is_steady() -> None:
    group = GroupState()
    for state, joining, forming in (
        ("up", "wait-join", True),
        ("up", "wait-sync", True),
        ("up", "steady", False),
        ("query-coord", "init", False),
    ):
        group.heard(json.dumps({"cgrp": {"state": state, "join_state": joining}}))
        assert group.is_forming == forming
    assert group.told == 4


def test_a_group_is_left_only_when_nothing_has_moved_for_a_while() -> None:
    now = 100.0
    group = GroupState(lambda: now)
    group.moved()
    group.heard(json.dumps({"cgrp": {"state": "up", "join_state": "steady"}}))
    assert not group.is_at_rest(since=0)
    now += QUIET_SECONDS
    assert group.is_at_rest(since=0)
    assert not group.is_at_rest(since=1), "that was told before"


def test_a_topic_made_again_is_another_log_and_only_once() -> None:
    ids = {"a": "1", "b": "1"}
    logs = LogIdentity(lambda topics: {topic: ids[topic] for topic in topics}, ["a", "b"])
    assert (logs.in_doubt, logs.replaced(), logs.in_doubt) == (True, frozenset(), False)
    ids["b"] = "2"
    logs.doubt()
    assert logs.replaced() == {"b"}
    assert logs.replaced() == frozenset()
