"""A message's state is the fold of its events, in any order, batches and repetitions.

Hypothesis makes any events that the contract allows, contradictions and ties included. They reach
the real merge in any order, split anywhere, some of them more than once. After every batch the rows
are those of the fold in `tests.properties.fold`, and so are the hourly counts. Along the way the
status of a message never loses rank, and its attempts and its last change never become less.
"""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.rows import dict_row

from audit import merge
from schemas.events import StatusEvent
from schemas.lifecycle import RANK
from schemas.vocabulary import Channel, Mode, Priority, Reason, Status
from tests.properties import fold
from tests.properties.effort import effort

NOW = datetime(2026, 3, 4, 10, 59, 59, 500_000, UTC)
MESSAGES = (
    UUID("01890a5d-ac96-774b-bcce-b302099a8001"),
    UUID("01890a5d-ac96-774b-bcce-b302099a8002"),
    UUID("3f0c1b5e-8f1d-4c39-9d0a-0d4d0f9a8003"),  # carries no time
)

# Few of everything, so that events agree, contradict each other and tie.
moments = st.sampled_from([0, 37, 730, 5_003, 61_007]).map(
    lambda milliseconds: NOW + timedelta(milliseconds=milliseconds)
)
texts = st.sampled_from([None, "a", "b"])
events = st.builds(
    StatusEvent,
    id=st.uuids(),
    message_id=st.sampled_from(MESSAGES),
    tenant=st.just("acme"),
    channel=st.just(Channel.SMS),
    status=st.sampled_from(Status),
    reason=st.sampled_from([Reason.ACCEPTED, Reason.AMBIGUOUS]),
    attempt=st.integers(0, 3),
    provider=texts,
    provider_message_id=texts,
    code=texts,
    detail=texts,
    response=texts,
    occurred_at=moments,
    recipient=texts,
    customer_id=texts,
    workflow=texts,
    priority=st.sampled_from([None, Priority.HIGH, Priority.BULK]),
    created_at=st.none() | moments,
    send_at=st.none() | moments,
    expires_at=st.none() | moments,
    metadata=st.sampled_from([{}, {"order": "7"}, {"order": "8"}]),
    traceparent=texts,
    mode=st.sampled_from([None, *Mode]),
)

_COUNTS = """
SELECT tenant, hour, channel, status, reason, provider, priority, workflow, bucket, count
FROM audit.rollup WHERE count <> 0
"""
_CLEAR = """
DELETE FROM audit.history; DELETE FROM audit.state; DELETE FROM audit.rollup;
DELETE FROM audit.evidence
"""
_EVIDENCE = "SELECT * FROM audit.evidence ORDER BY tenant, channel, provider"


@pytest.fixture
def connection(database_url: str) -> Iterator[merge.Connection]:
    with merge.connect(database_url) as opened:
        yield opened


def clear(connection: merge.Connection) -> None:
    connection.execute(_CLEAR)


def state(connection: merge.Connection) -> dict[UUID, fold.Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("SELECT * FROM audit.state").fetchall()
    return {row["message_id"]: {name: row[name] for name in merge.STATE_COLUMNS} for row in rows}


def counts(connection: merge.Connection) -> Counter[tuple[Any, ...]]:
    rows = connection.execute(_COUNTS).fetchall()
    return Counter({row[:-1]: row[-1] for row in rows})


def only_grows(before: fold.Row, after: fold.Row) -> bool:
    """Whether status rank, attempts and the last change have not become less."""
    grows = RANK[Status(after["status"])] >= RANK[Status(before["status"])]
    return bool(
        grows
        and after["attempts"] >= before["attempts"]
        and after["updated_at"] >= before["updated_at"]
    )


@given(
    published=st.lists(events, min_size=1, max_size=14, unique_by=lambda event: event.id),
    batch_ends=st.lists(st.integers(0, 20), max_size=4),
    shuffler=st.randoms(use_true_random=False),
)
@effort(60)
def test_the_state_is_the_fold_of_the_events_in_any_order_and_batches(
    connection: merge.Connection,
    published: list[StatusEvent],
    batch_ends: list[int],
    shuffler: random.Random,
) -> None:
    clear(connection)
    arrivals = [*published, *published[:5]]
    shuffler.shuffle(arrivals)
    before: dict[UUID, fold.Row] = {}
    for start, end in pairwise([0, *sorted(batch_ends), len(arrivals)]):
        merge.merge(connection, arrivals[start:end], {})
        rows = state(connection)
        assert rows == fold.state(arrivals[: max(start, end)])
        assert counts(connection) == fold.rollup(rows)
        assert all(only_grows(row, rows[message_id]) for message_id, row in before.items())
        before = rows
    assert rows == fold.state(published)
    evidence = connection.execute(_EVIDENCE).fetchall()
    clear(connection)
    merge.merge(connection, published, {})
    assert connection.execute(_EVIDENCE).fetchall() == evidence
