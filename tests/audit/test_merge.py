"""The merge, case by case; that no order of arrival changes a row is in `tests.properties`."""

import psycopg
import pytest

from audit import merge
from schemas import events
from schemas.events import ProviderWords
from schemas.lifecycle import RANK
from schemas.vocabulary import Reason, Status
from tests.audit import samples

PLACE = ("comms.status", 0)


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


def test_sql_ranks_statuses_as_the_lifecycle_does(connection: merge.Connection) -> None:
    rows = connection.execute(
        "SELECT word, audit.rank(word) FROM unnest(%s::text[]) AS word", ([*Status],)
    ).fetchall()
    assert dict(rows) == {str(status): rank for status, rank in RANK.items()}


def test_a_reader_that_was_overtaken_records_nothing(connection: merge.Connection) -> None:
    first, second = samples.sms(), samples.sms(to="+12025550102")
    merge.merge(connection, [events.queued(first)], {PLACE: merge.Step(None, 1, 5, samples.NOW)})
    with pytest.raises(merge.OffsetConflictError):
        merge.merge(
            connection, [events.queued(second)], {PLACE: merge.Step(None, 1, 5, samples.NOW)}
        )
    with pytest.raises(merge.OffsetConflictError):
        merge.merge(connection, [events.queued(second)], {PLACE: merge.Step(0, 1, 5, samples.NOW)})
    assert connection.execute("SELECT message_id FROM audit.history").fetchall() == [(first.id,)]
    merge.merge(connection, [events.queued(second)], {PLACE: merge.Step(1, 2, 6, samples.NOW)})
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
        words=ProviderWords(code="poison"),
    )
    with pytest.raises(merge.EventRefusedError):
        merge.merge(connection, [event], {PLACE: merge.Step(None, 1, 5, samples.NOW)})
    assert connection.execute("SELECT count(*) FROM audit.consumer_offset").fetchone() == (0,)


def test_nul_in_a_provider_answer_is_recorded_as_a_replacement(
    connection: merge.Connection,
) -> None:
    message = samples.sms()
    event = events.failed(
        message,
        reason=Reason.REJECTED,
        at=samples.after(message, 1),
        words=ProviderWords(detail="bad\x00answer"),
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
