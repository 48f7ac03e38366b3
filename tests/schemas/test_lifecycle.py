"""The life of a message: what may follow what, whatever the order of arrival."""

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.lifecycle import FINAL, RANK, TRANSITIONS, is_forward
from schemas.vocabulary import Status

statuses = st.sampled_from(Status)


def fold(words: list[Status]) -> Status:
    """Where a message ends that hears these words in this order."""
    current = Status.PENDING
    for word in words:
        if is_forward(current, word):
            current = word
    return current


@given(statuses)
def test_a_status_never_moves_to_itself(status: Status) -> None:
    assert not is_forward(status, status)


@given(statuses, statuses)
def test_of_two_different_statuses_exactly_one_is_further(one: Status, other: Status) -> None:
    if one is not other:
        assert is_forward(one, other) is not is_forward(other, one)


@given(statuses, statuses, statuses)
def test_forward_is_transitive(one: Status, two: Status, three: Status) -> None:
    if is_forward(one, two) and is_forward(two, three):
        assert is_forward(one, three)


@given(st.lists(statuses, max_size=8), st.randoms(use_true_random=False))
def test_any_order_of_arrival_ends_in_the_same_status(
    words: list[Status], chance: random.Random
) -> None:
    shuffled = words.copy()
    chance.shuffle(shuffled)
    assert fold(words) is fold(shuffled) is fold(words + words)


def test_every_status_has_a_rank_of_its_own_and_a_set_of_successors() -> None:
    assert set(RANK) == set(TRANSITIONS) == set(Status)
    assert len(set(RANK.values())) == len(Status)


def test_every_drawn_transition_but_a_further_attempt_is_forward() -> None:
    drawn = [(a, b) for a, successors in TRANSITIONS.items() for b in successors]
    assert {(a, b) for a, b in drawn if not is_forward(a, b)} == {(Status.SENDING, Status.SENDING)}


def test_every_status_is_reached_from_pending_and_ends() -> None:
    reached, frontier = {Status.PENDING}, {Status.PENDING}
    while frontier:
        frontier = {b for a in frontier for b in TRANSITIONS[a]} - reached
        reached |= frontier
    assert reached == set(Status)
    assert all(TRANSITIONS[end] <= {Status.DELIVERED} for end in FINAL)


@pytest.mark.parametrize("order", list(permutations([Status.UNKNOWN, Status.DELIVERED])))
def test_a_receipt_wins_over_doubt_in_either_order(order: tuple[Status, ...]) -> None:
    assert fold(list(order)) is Status.DELIVERED


def test_a_late_receipt_wins_over_a_failure() -> None:
    assert fold([Status.FAILED, Status.DELIVERED]) is Status.DELIVERED
    assert fold([Status.DELIVERED, Status.FAILED]) is Status.DELIVERED
