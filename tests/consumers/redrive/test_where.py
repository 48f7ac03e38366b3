"""The filter: what it matches, what it refuses and where, and that no text of it becomes SQL."""

import string
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import merge
from consumers.redrive.where import COLUMNS, MAX_DEPTH, MAX_LENGTH, FilterError, parse
from schemas.vocabulary import Reason
from tests.audit import samples


def found(connection: merge.Connection, text: str) -> list[str]:
    """The workflows of the messages that a filter finds."""
    condition = parse(text)
    query = f"SELECT workflow FROM audit.state WHERE {condition.sql} ORDER BY workflow"  # noqa: S608
    rows = connection.execute(query.encode(), dict(condition.values)).fetchall()
    return [row[0] for row in rows]


@pytest.fixture
def three(database_url: str) -> Iterator[merge.Connection]:
    """A delivered message, a failed one and a deferred one."""
    delivered, refused, waiting = (samples.sms(workflow=name) for name in "abc")
    recorded = [
        *samples.delivered_life(delivered),
        samples.refused(refused, 1, 900),
        samples.deferred(waiting, 4, 900),
    ]
    with merge.connect(database_url) as connection:
        merge.merge(connection, recorded, {})
        yield connection


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status = 'failed'", "b"),
        ("STATUS <> 'failed'", "ac"),
        ("not status = 'failed' and attempts > 1", "c"),
        ("status = 'failed' or attempts >= 4", "bc"),
        ("(status = 'failed' or status = 'delivered') and workflow like 'b%'", "b"),
        ("not (status in ('failed', 'delivered'))", "c"),
        ("reason not in ('invalid_recipient')", "ac"),
        ("finished_at is null", "c"),
        ("finished_at is not null and channel = 'sms'", "ab"),
        ("created_at > '2026-03-04' and created_at < '2026-03-05T00:00:00+01:00'", "abc"),
        ("created_at > '2026-03-05'", ""),
        ("created_at <> '2020-01-01'", "abc"),
        ("created_at > '0001-01-01' and created_at <= '9999-12-31T23:59:59Z'", "abc"),
        ("attempts < '99999999999999999999'", "abc"),
        ("to = '+12025550100' and customer_id not like 'c_'", ""),
        ("recipient like '%0100'", "abc"),
        ("provider = 'it''s'", ""),
        ("attempts != 1", "c"),
    ],
)
def test_a_filter_finds_what_it_says(three: merge.Connection, text: str, expected: str) -> None:
    assert found(three, text) == list(expected)


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("", 1, "too early"),
        ("status = ", 10, "too early"),
        ("status = 'failed' and", 22, "too early"),
        ("status = 'faild'", 10, "one of pending"),
        ("colour = 'red'", 1, "there is no colour"),
        ("status = 'failed'; drop table x", 18, "does not belong"),
        ("status = 'failed' -- x", 19, "does not belong"),
        ("status = failed", 10, "does not belong"),
        ("status > 'failed'", 8, "numbers and times"),
        ("status like 'f%'", 1, "LIKE"),
        ("attempts > 'many'", 12, "a whole number"),
        ("created_at > 'yesterday'", 14, "a time"),
        ("id = 'x'", 6, "a message's id"),
        ("provider = 'a\x00b'", 12, "NUL"),
        ("provider = '\ud800'", 12, "a text"),
        ("status = 'failed'\nor ) x", 22, "does not belong"),
        ("status = 'failed' 'x'", 19, "does not belong"),
        ("(status = 'failed'", 19, "too early"),
        ("status = 'unfinished", 10, "does not belong"),
        ("pg_sleep(1)", 9, "does not belong"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH + 1, "characters"),
        ("not " * (MAX_DEPTH + 1) + "status = 'failed'", 1, "nested"),
    ],
)
def test_an_error_names_the_place_in_the_text(text: str, position: int, word: str) -> None:
    with pytest.raises(FilterError) as refused:
        parse(text)
    assert refused.value.position == position
    assert word in refused.value.problem


SNIPPETS = st.sampled_from(
    [
        *("'", "''", "\\'", '"', ";", "--", "/*", "%s", "%(w0)s", "%", "$1", "{", "}", "(", ")"),
        *("or", "and", "not", "in", "is null", "like", "=", "1=1", "drop", "status", "'failed'"),
        *COLUMNS,
    ]
)
TEXTS = st.lists(SNIPPETS | st.text(string.printable, max_size=4), max_size=12).map(" ".join)


@given(TEXTS)
@settings(deadline=None)
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        condition = parse(text)
    except FilterError:
        return
    assert set(_words_of(condition.sql)) <= {column.sql for column in COLUMNS.values()} | {
        *("AND", "OR", "NOT", "IN", "LIKE", "IS", "NULL", "trouble", "comms", "uuid_from"),
        *("interval", "hour", "s", "message_id"),
        *condition.values,
    }
    assert not set(condition.sql) - set(string.ascii_letters + string.digits + "_ ()%<>=!,.'-+")


def _words_of(sql: str) -> list[str]:
    spaced = "".join(c if c.isalnum() or c == "_" else " " for c in sql)
    return [word for word in spaced.split() if not word.isdigit()]


@settings(deadline=None)
@given(value=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_a_literal_is_the_value_that_was_written(value: str) -> None:
    quoted = value[:100].replace("'", "''")
    condition = parse(f"provider = '{quoted}'")
    assert list(condition.values.values()) == [value[:100]]
    assert condition.sql == "((provider IN (%(w0)s)))"


def test_every_reason_can_be_filtered_by() -> None:
    for reason in Reason:
        assert parse(f"reason = '{reason}'").values == {"w0": reason.value}
