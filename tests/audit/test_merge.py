"""The merge: any order, any repetition and any split of the same events end in the same rows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import merge
from schemas import events
from schemas.events import ProviderResponse, StatusEvent
from schemas.lifecycle import RANK, precedence
from schemas.messages import SmsMessage
from schemas.vocabulary import Reason, Status
from tests.audit import samples

PLACE = ("comms.status", 0)

FRESH_COUNT = """
SELECT tenant, date_trunc('hour', created_at, 'UTC'), channel, status, reason,
       coalesce(provider, ''), coalesce(priority, ''), coalesce(workflow, ''),
       audit.latency_bucket(created_at, send_at, sent_at), count(*)
FROM audit.state GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""
KEPT_COUNT = """
SELECT tenant, hour, channel, status, reason, provider, priority, workflow, bucket, count
FROM audit.rollup WHERE count <> 0 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""


def derived(connection: merge.Connection) -> dict[str, Any]:
    """Everything computed from the history, in one comparable value."""
    found: dict[str, Any] = {
        "state": connection.execute("SELECT * FROM audit.state ORDER BY message_id").fetchall(),
        "rollup": connection.execute(KEPT_COUNT).fetchall(),
        "evidence": connection.execute("SELECT * FROM audit.evidence ORDER BY 1, 2, 3").fetchall(),
    }
    assert found["rollup"] == connection.execute(FRESH_COUNT).fetchall()
    return found


def empty(connection: merge.Connection) -> None:
    connection.execute("TRUNCATE audit.history, audit.state, audit.rollup, audit.evidence")


def life(message: SmsMessage) -> list[StatusEvent]:
    """Every kind of event of one message, contradictory ones too."""
    response = ProviderResponse(detail="no answer")
    return [
        events.queued(message),
        samples.claimed(message, 1, 10),
        samples.deferred(message, 1, 60),
        samples.claimed(message, 2, 900),
        events.in_doubt(
            message,
            attempt=2,
            provider="other",
            at=samples.after(message, 950),
            response=response,
        ),
        samples.accepted(message, 3, 1000),
        samples.accepted(message, 2, 2000),
        events.cancelled(message, at=samples.after(message, 5)),
        samples.refused(message, 2, 1500),
        samples.receipt(message, 2, 3000, delivered=False),
        samples.receipt(message, 3, 2500, delivered=True),
        samples.resolved(message, 2, 3500, sent=False),
        samples.resent(message, 4, 4000),
        samples.deferred(message, 4, 4100),
        samples.claimed(message, 5, 4200),
        events.cancelled(message, at=samples.after(message, 4300), attempt=5),
        samples.resent(message, 6, 5000),
        samples.refused(message, 6, 5100),
        samples.accepted(message, 6, 5200),
        samples.no_receipt(message, 3, 1000),
    ]


MESSAGES = [
    samples.sms(),
    samples.sms(to="+12025550101", customer_id=None),
    samples.sms(tenant="b"),
]
WORLD = [event for message in MESSAGES for event in life(message)]


@given(
    chosen=st.lists(st.sampled_from(WORLD), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    order=st.randoms(use_true_random=False),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_order_repetition_and_split_change_nothing(
    connection: merge.Connection, chosen: list[StatusEvent], cuts: list[int], order: Any
) -> None:
    empty(connection)
    merge.merge(connection, each_once(chosen), {})
    expected = derived(connection)

    empty(connection)
    shuffled = [*chosen, *chosen[:5]]
    order.shuffle(shuffled)
    edges = [0, *sorted(cuts), len(shuffled)]
    for start, end in pairwise(edges):
        merge.merge(connection, shuffled[start:end], {})
    assert derived(connection) == expected


def each_once(chosen: Sequence[StatusEvent]) -> list[StatusEvent]:
    return list({event.id: event for event in chosen}.values())


def test_the_row_of_a_delivered_message(connection: merge.Connection) -> None:
    message = samples.sms()
    assert merge.merge(connection, samples.delivered_life(message), {}) == 4
    row = connection.execute(
        "SELECT status, reason, attempts, provider, provider_message_id, recipient, customer_id,"
        " created_at, first_attempt_at, sent_at, finished_at, updated_at, metadata"
        " FROM audit.state WHERE message_id = %s",
        (message.id,),
    ).fetchone()
    at = [samples.after(message, moment) for moment in (0, 20, 80, 900)]
    assert row == (
        *("delivered", "delivered", 1, "simulated", "SM1", "+12025550100", "c1"),
        *(at[0], at[1], at[2], at[3], at[3], {"order": "7"}),
    )


def test_a_message_known_by_its_receipt_alone_takes_its_time_from_its_id(
    connection: merge.Connection,
) -> None:
    message = samples.sms()
    merge.merge(connection, [samples.receipt(message, 1, 700, delivered=True)], {})
    row = connection.execute("SELECT created_at, recipient FROM audit.state").fetchone()
    assert row == (samples.NOW, None)


def test_a_late_delivered_receipt_wins_over_failed(connection: merge.Connection) -> None:
    message = samples.sms()
    merge.merge(connection, [samples.receipt(message, 1, 700, delivered=True)], {})
    merge.merge(connection, [samples.refused(message, 1, 900)], {})
    assert connection.execute("SELECT status FROM audit.state").fetchone() == ("delivered",)


def cycle_start_of(event: StatusEvent, recorded: Sequence[StatusEvent]) -> int:
    resends = [e.attempt for e in recorded if e.reason is Reason.RESENT]
    return max((attempt for attempt in resends if attempt <= event.attempt), default=0)


@given(
    chosen=st.lists(st.sampled_from(life(MESSAGES[0])), min_size=1, unique_by=lambda e: e.id),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_state_is_the_status_of_highest_precedence(
    connection: merge.Connection, chosen: list[StatusEvent]
) -> None:
    empty(connection)
    merge.merge(connection, chosen, {})
    highest = max(chosen, key=lambda e: precedence(e.status, cycle_start=cycle_start_of(e, chosen)))
    row = connection.execute("SELECT status FROM audit.state").fetchone()
    assert row == (highest.status.value,)


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ([samples.accepted(MESSAGES[0], 2, 900)], ("sent", "accepted")),
        ([], ("sending", "resent")),
        ([samples.refused(MESSAGES[0], 2, 900)], ("failed", "invalid_recipient")),
        ([samples.receipt(MESSAGES[0], 1, 900, delivered=False)], ("sending", "resent")),
        ([samples.receipt(MESSAGES[0], 1, 900, delivered=True)], ("delivered", "delivered")),
        (
            [events.cancelled(MESSAGES[0], at=samples.after(MESSAGES[0], 900), attempt=2)],
            ("cancelled", "cancelled"),
        ),
    ],
)
def test_a_failed_message_that_is_resent_has_the_status_of_the_resend(
    connection: merge.Connection, later: list[StatusEvent], expected: tuple[str, str]
) -> None:
    message = MESSAGES[0]
    failed = samples.refused(message, 1, 100)
    merge.merge(connection, [failed, *later, samples.resent(message, 2, 800)], {})
    row = connection.execute("SELECT status, reason FROM audit.state").fetchone()
    assert row == expected


def test_a_delivered_message_stays_delivered_after_a_failed_resend(
    connection: merge.Connection,
) -> None:
    message = samples.sms()
    merge.merge(connection, samples.delivered_life(message), {})
    merge.merge(
        connection, [samples.resent(message, 2, 1000), samples.refused(message, 2, 1100)], {}
    )
    assert connection.execute("SELECT status FROM audit.state").fetchone() == ("delivered",)


def test_a_resolution_is_no_evidence_about_the_provider(
    connection: merge.Connection,
) -> None:
    message = samples.sms()
    resolved = [samples.resent(message, 2, 100), samples.resolved(message, 2, 200, sent=True)]
    merge.merge(connection, resolved, {})
    assert connection.execute("SELECT status, reason FROM audit.state").fetchone() == (
        "sent",
        "resolved",
    )
    assert connection.execute("SELECT count(*) FROM audit.evidence").fetchone() == (0,)


def test_sql_ranks_statuses_as_the_lifecycle_does(connection: merge.Connection) -> None:
    rows = connection.execute(
        "SELECT word, audit.rank(word) FROM unnest(%s::text[]) AS word", ([*Status],)
    ).fetchall()
    assert dict(rows) == {str(status): rank for status, rank in RANK.items()}


def test_a_reader_whose_offset_another_has_moved_records_nothing(
    connection: merge.Connection,
) -> None:
    first, second = samples.sms(), samples.sms(to="+12025550102")
    merge.merge(
        connection,
        [events.queued(first)],
        {PLACE: merge.OffsetMove(None, 1, 5, samples.NOW)},
    )
    with pytest.raises(merge.OffsetConflictError):
        merge.merge(
            connection,
            [events.queued(second)],
            {PLACE: merge.OffsetMove(None, 1, 5, samples.NOW)},
        )
    with pytest.raises(merge.OffsetConflictError):
        merge.merge(
            connection,
            [events.queued(second)],
            {PLACE: merge.OffsetMove(0, 1, 5, samples.NOW)},
        )
    assert connection.execute("SELECT message_id FROM audit.history").fetchall() == [(first.id,)]
    merge.merge(
        connection, [events.queued(second)], {PLACE: merge.OffsetMove(1, 2, 6, samples.NOW)}
    )
    assert connection.execute("SELECT next_offset, witness FROM audit.consumer_offset").fetchall()[
        0
    ] == (2, 6)


def test_an_event_that_cannot_be_stored_takes_the_offset_back_with_it(
    connection: merge.Connection,
) -> None:
    connection.execute("ALTER TABLE audit.history ADD CHECK (code <> 'poison')")
    message = samples.sms()
    event = events.failed(
        message,
        reason=Reason.REJECTED,
        at=samples.after(message, 1),
        response=ProviderResponse(code="poison"),
    )
    with pytest.raises(merge.EventRefusedError):
        merge.merge(connection, [event], {PLACE: merge.OffsetMove(None, 1, 5, samples.NOW)})
    assert connection.execute("SELECT count(*) FROM audit.consumer_offset").fetchone() == (0,)


def test_nul_in_a_provider_answer_is_recorded_as_a_replacement(
    connection: merge.Connection,
) -> None:
    message = samples.sms()
    event = events.failed(
        message,
        reason=Reason.REJECTED,
        at=samples.after(message, 1),
        response=ProviderResponse(detail="bad\x00answer"),
    )
    merge.merge(connection, [event], {})
    assert connection.execute("SELECT detail FROM audit.history").fetchone() == ("bad\ufffdanswer",)


def test_rows_lie_in_the_partition_of_their_month_and_odd_ids_in_the_default(
    connection: merge.Connection,
) -> None:
    connection.execute("SELECT audit.ensure_partitions()")
    found = connection.execute(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit.history'::regclass"
    ).fetchone()
    assert found is not None
    assert found[0] >= 5
    merge.merge(connection, [events.queued(samples.sms())], {})  # long before the partitions begin
    assert connection.execute("SELECT tableoid::regclass::text FROM audit.history").fetchone() == (
        "audit.history_default",
    )


def test_analysts_read_the_views_masked_and_nothing_else(
    connection: merge.Connection, database_url: str
) -> None:
    message = samples.sms()
    merge.merge(connection, samples.delivered_life(message), {})
    connection.execute("SET ROLE comms_analyst")
    assert connection.execute("SELECT recipient, status FROM audit.message").fetchall() == [
        ("+12***00", "delivered")
    ]
    assert connection.execute("SELECT count(*) FROM audit.event").fetchone() == (4,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT recipient FROM audit.state")


def test_a_receipt_timeout_is_the_reason_and_no_success_of_the_provider(
    connection: merge.Connection,
) -> None:
    message = samples.sms()
    query = "SELECT status, reason, sent_at, provider_message_id FROM audit.state"
    merge.merge(connection, samples.delivered_life(message)[:3], {})
    evidence = connection.execute("SELECT * FROM audit.evidence").fetchall()
    merge.merge(connection, [samples.no_receipt(message, 1, 80)], {})
    assert connection.execute(query).fetchone() == (
        *("sent", "no_receipt"),
        *(samples.after(message, 80), "SM1"),
    )
    assert connection.execute("SELECT * FROM audit.evidence").fetchall() == evidence
    merge.merge(connection, samples.delivered_life(message)[3:], {})
    assert connection.execute(query).fetchone() == (
        *("delivered", "delivered"),
        *(samples.after(message, 80), "SM1"),
    )
