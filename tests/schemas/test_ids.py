"""Ids: a message's carries its time and slot and sorts by its time, an event's is what it says."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import carries_slot, event_id, new_message_id, slot_of, time_of, with_slot
from schemas.slots import SLOTS, murmur2, slot_of_key

milliseconds = st.integers(0, 2**42)
keys = st.text(max_size=40)
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


@given(milliseconds, keys)
def test_an_id_made_with_a_key_is_like_any_other_and_carries_the_slot(
    unix_ms: int, key: str
) -> None:
    made = new_message_id(unix_ms, key=key)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert time_of(made) == time_of(new_message_id(unix_ms))
    assert slot_of(made) == slot_of_key(key)
    assert carries_slot(made, key)


@given(milliseconds, keys, milliseconds)
def test_the_same_key_has_the_same_slot_at_any_time(first: int, key: str, second: int) -> None:
    assert slot_of(new_message_id(first, key=key)) == slot_of(new_message_id(second, key=key))


def test_a_slot_changes_nothing_else_of_an_id() -> None:
    plain = new_message_id()
    slotted = with_slot(plain, "acme:+12025550100")
    assert slotted.int >> 10 == plain.int >> 10
    assert with_slot(slotted, "acme:+12025550100") == slotted


# From Kafka's own tests of `Utils.murmur2`, whose results are Java's signed integers.
@pytest.mark.parametrize(
    ("text", "java"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_hash_is_that_of_kafkas_java_clients(text: str, java: int) -> None:
    assert murmur2(text.encode()) == java % 2**32


def test_the_slot_of_a_key_never_changes() -> None:
    assert slot_of_key("acme:+12025550100") == 664
    assert slot_of_key("acme:ann@example.com") == 671


@pytest.mark.parametrize("partitions", [1, 2, 4, 8, 64, 1024])
@given(keys)
def test_the_slot_gives_the_partition_where_their_number_divides_1024(
    partitions: int, key: str
) -> None:
    to_positive = murmur2(key.encode()) & 0x7FFFFFFF
    assert slot_of_key(key) % partitions == to_positive % partitions


def test_keys_that_look_alike_are_spread_over_all_slots() -> None:
    numbers = [f"acme:+1202{n:07d}" for n in range(100 * SLOTS)]
    addresses = [f"tenant-{n % 7}:user{n}@example.com" for n in range(100 * SLOTS)]
    for some in (numbers, addresses):
        counts = Counter(map(slot_of_key, some))
        assert len(counts) == SLOTS
        # The expected count is 100, its standard deviation 10.
        assert 50 < min(counts.values()) <= max(counts.values()) < 150


def test_ids_of_one_key_made_as_fast_as_possible_differ_and_stay_in_order() -> None:
    made = [new_message_id(key="acme:+12025550100") for _ in range(50_000)]
    assert len(set(made)) == len(made)
    assert [time_of(one) for one in made] == sorted(time_of(one) for one in made)


def test_an_id_of_another_maker_has_a_slot_of_chance_or_none() -> None:
    assert slot_of(UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8")) is None
    assert not carries_slot(UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8"), "acme:+12025550100")
    slots = {slot_of(new_message_id(1)) for _ in range(200)}
    assert len(slots) > 100


@given(st.uuids(), parts)
def test_the_same_fact_told_twice_has_the_same_id(message_id: UUID, said: list[str]) -> None:
    assert event_id(message_id, *said) == event_id(message_id, *said)


@given(st.uuids(), st.uuids(), parts, parts)
def test_different_facts_have_different_ids(
    message_id: UUID, other_id: UUID, said: list[str], other: list[str]
) -> None:
    if (message_id, "/".join(said)) != (other_id, "/".join(other)):
        assert event_id(message_id, *said) != event_id(other_id, *other)
