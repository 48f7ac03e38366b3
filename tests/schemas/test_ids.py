"""Ids: a message's carries its time and sorts by it, an event's is what the event says."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import event_id, new_message_id, time_of

milliseconds = st.integers(0, 2**42)
parts = st.lists(
    st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=5),
    max_size=4,
)


@given(milliseconds)
def test_a_message_id_is_a_uuid_of_version_7(unix_ms: int) -> None:
    made = new_message_id(unix_ms)
    assert (made.version, made.variant) == (7, RFC_4122)


@given(milliseconds)
def test_a_message_id_carries_its_time(unix_ms: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)
    assert abs(time_of(new_message_id(unix_ms)) - at) < timedelta(milliseconds=1)


@given(milliseconds, st.integers(1, 10_000))
def test_a_later_message_sorts_later_as_a_uuid_and_as_text(unix_ms: int, later: int) -> None:
    first, second = new_message_id(unix_ms), new_message_id(unix_ms + later)
    assert first < second
    assert str(first) < str(second)


def test_a_message_id_of_now_is_made_now() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert before <= time_of(new_message_id()) <= datetime.now(UTC)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_message_id(1) for _ in range(1000)}) == 1000


@given(st.uuids(), parts)
def test_the_same_fact_told_twice_has_the_same_id(message_id: UUID, said: list[str]) -> None:
    assert event_id(message_id, *said) == event_id(message_id, *said)


@given(st.uuids(), st.uuids(), parts, parts)
def test_different_facts_have_different_ids(
    message_id: UUID, other_id: UUID, said: list[str], other: list[str]
) -> None:
    if (message_id, "/".join(said)) != (other_id, "/".join(other)):
        assert event_id(message_id, *said) != event_id(other_id, *other)
