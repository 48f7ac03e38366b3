"""The lifecycle: the transitions of a message, in any order of arrival of its events."""

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.lifecycle import FINAL, RANK, TRANSITIONS, is_forward
from schemas.vocabulary import Status

statuses = st.sampled_from(Status)


def fold(events: list[Status]) -> Status:
    """Return the status of a message after events with these statuses, in this order."""
    current = Status.PENDING
    for status in events:
        if is_forward(current, status):
            current = status
    return current


@given(statuses)
def test_status_never_moves_to_itself(status: Status) -> None:
    assert not is_forward(status, status)


@given(statuses, statuses)
def test_between_two_statuses_exactly_one_direction_is_forward(a: Status, b: Status) -> None:
    if a is not b:
        assert is_forward(a, b) is not is_forward(b, a)


@given(statuses, statuses, statuses)
def test_forward_is_transitive(a: Status, b: Status, c: Status) -> None:
    if is_forward(a, b) and is_forward(b, c):
        assert is_forward(a, c)


@given(st.lists(statuses, max_size=8), st.randoms(use_true_random=False))
def test_any_order_of_arrival_ends_in_the_same_status(
    events: list[Status], rng: random.Random
) -> None:
    shuffled = events.copy()
    rng.shuffle(shuffled)
    assert fold(events) is fold(shuffled) is fold(events + events)


def test_every_status_has_a_unique_rank_and_a_set_of_successors() -> None:
    assert set(RANK) == set(TRANSITIONS) == set(Status)
    assert len(set(RANK.values())) == len(Status)


def test_every_transition_except_another_attempt_is_forward() -> None:
    transitions = [(a, b) for a, successors in TRANSITIONS.items() for b in successors]
    assert {(a, b) for a, b in transitions if not is_forward(a, b)} == {
        (Status.SENDING, Status.SENDING)
    }


def test_every_status_is_reachable_and_only_delivered_follows_a_final_one() -> None:
    reached, frontier = {Status.PENDING}, {Status.PENDING}
    while frontier:
        frontier = {b for a in frontier for b in TRANSITIONS[a]} - reached
        reached |= frontier
    assert reached == set(Status)
    assert all(TRANSITIONS[status] <= {Status.DELIVERED} for status in FINAL)


@pytest.mark.parametrize("order", list(permutations([Status.UNKNOWN, Status.DELIVERED])))
def test_receipt_wins_over_unknown_in_either_order(order: tuple[Status, ...]) -> None:
    assert fold(list(order)) is Status.DELIVERED


def test_late_receipt_wins_over_a_failure() -> None:
    assert fold([Status.FAILED, Status.DELIVERED]) is Status.DELIVERED
    assert fold([Status.DELIVERED, Status.FAILED]) is Status.DELIVERED
