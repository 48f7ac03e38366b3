"""A database of version 0.1 with messages in every status is upgraded and shows them alike."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from comms.platform.upgrading import upgrade
from schemas.ids import new_message_id
from schemas.vocabulary import Status
from tests.engines import empty_database

VERSION_0_1 = "0015"
NOW = datetime.now(UTC)
EXPIRY = NOW + timedelta(days=1)

# For each message: where it waits, the outcomes of its attempts (None: claimed and running), and
# the status that is recorded of it.
LIVES: dict[str, tuple[str | None, list[str | None], Status | None]] = {
    "just accepted": ("outbox", [], None),
    "scheduled": ("scheduled", [], Status.PENDING),
    "pending": ("outbox", [], Status.PENDING),
    "sending": (None, [None], Status.SENDING),
    "retried": ("deferred", ["sending"], Status.SENDING),
    "sent": (None, ["sending", "sent"], Status.SENT),
    "unknown": (None, ["unknown"], Status.UNKNOWN),
    "delivered": (None, ["sent"], Status.DELIVERED),
    "failed": (None, ["failed"], Status.FAILED),
    "resent": (None, ["failed", None], Status.SENDING),
    "cancelled": (None, ["cancelled"], Status.CANCELLED),
}
LEDGER = {
    "just accepted": None,
    "scheduled": None,
    "pending": None,
    "sending": "sending",
    "retried": "sending",
    "sent": "sent",
    "unknown": "unknown",
    "delivered": "sent",
    "failed": "failed",
    "resent": "failed",
    "cancelled": "cancelled",
}


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    with empty_database(postgres_url) as url:
        upgrade(url, revision=VERSION_0_1)
        yield url


def fill(database: psycopg.Connection, name: str, message_id: UUID) -> None:
    """Insert what version 0.1 has of a message."""
    queue, outcomes, recorded = LIVES[name]
    database.execute(
        "INSERT INTO producer.message (id, tenant, idempotency_key, body_hash, channel, recipient,"
        " priority, created_at, expires_at)"
        " VALUES (%s, 'acme', %s, '', 'sms', '+12025550100', 'normal', %s, %s)",
        (message_id, name, NOW, EXPIRY),
    )
    if queue == "outbox":
        database.execute(
            "INSERT INTO producer.outbox (message_id, topic, key, value)"
            " VALUES (%s, 'comms.sms', 'acme:+12025550100', '')",
            (message_id,),
        )
    if queue == "scheduled":
        database.execute(
            "INSERT INTO producer.scheduled (message_id, topic, key, value, due_at)"
            " VALUES (%s, 'comms.sms', 'acme:+12025550100', '', %s)",
            (message_id, EXPIRY),
        )
    if queue == "deferred":
        database.execute(
            "INSERT INTO consumers.deferred (message_id, channel, value, due_at)"
            " VALUES (%s, 'sms', '', %s)",
            (message_id, EXPIRY),
        )
    for attempt, status in enumerate(outcomes, 1):
        database.execute(
            "INSERT INTO consumers.attempt (message_id, attempt, tenant, channel, provider, owner,"
            " claimed_at, value) VALUES (%s, %s, 'acme', 'sms', 'p', gen_random_uuid(), %s, 'x')",
            (message_id, attempt, NOW),
        )
        if status is not None:
            database.execute(
                "INSERT INTO consumers.outcome (message_id, attempt, status, reason, occurred_at)"
                " VALUES (%s, %s, %s, 'accepted', %s)",
                (message_id, attempt, status, NOW),
            )
    if recorded is not None:
        database.execute(
            "INSERT INTO audit.state (message_id, tenant, channel, status, reason, attempts,"
            " provider, recipient, created_at, updated_at, expires_at, metadata)"
            " VALUES (%s, 'acme', 'sms', %s, 'accepted', %s, 'p', '+12025550100', %s, %s, %s,"
            " '{}')",
            (message_id, recorded, len(outcomes), NOW, NOW, EXPIRY),
        )
        database.execute(
            "INSERT INTO audit.history (message_id, id, tenant, channel, status, reason, attempt,"
            " occurred_at) VALUES (%s, gen_random_uuid(), 'acme', 'sms', %s, 'accepted', %s, %s)",
            (message_id, recorded, len(outcomes), NOW),
        )


def test_messages_of_version_0_1_are_shown_as_they_were(url: str) -> None:
    ids = {name: new_message_id() for name in LIVES}
    names = {message_id: name for name, message_id in ids.items()}
    with psycopg.connect(url, autocommit=True) as database:
        for name, message_id in ids.items():
            fill(database, name, message_id)
        database.execute(
            "INSERT INTO audit.evidence (tenant, channel, provider) VALUES ('acme', 'sms', 'p')"
        )
    upgrade(url)
    upgrade(url)  # again, as every start does
    with psycopg.connect(url, autocommit=True) as database:
        accepted = database.execute(
            "SELECT id, expires_at, is_scheduled FROM producer.accepted_message"
        ).fetchall()
        assert {names[row[0]]: row[2] for row in accepted} == {
            name: queue == "scheduled" for name, (queue, _, _) in LIVES.items()
        }
        assert {row[1] for row in accepted} == {EXPIRY}
        queued = database.execute("SELECT id FROM producer.queued_message").fetchall()
        assert {names[row[0]] for row in queued} == {"just accepted", "pending"}
        scheduled = database.execute("SELECT id FROM producer.scheduled_message").fetchall()
        assert {names[row[0]] for row in scheduled} == {"scheduled"}
        assert database.execute(
            "SELECT pending, scheduled FROM producer.tenant_backlog('acme', 100)"
        ).fetchone() == (2, 1)
        statuses = database.execute(
            "SELECT message_id, status FROM consumers.delivery_status(%s)", ([*names],)
        ).fetchall()
        assert {names[row[0]]: row[1] for row in statuses} == LEDGER
        recorded = database.execute("SELECT message_id, status FROM audit.recorded_message")
        assert {names[row[0]]: row[1] for row in recorded} == {
            name: life[2] for name, life in LIVES.items() if life[2] is not None
        }
        assert database.execute("SELECT count(*) FROM audit.recorded_event").fetchone() == (10,)
        newest = database.execute(
            "SELECT tenant, message_id FROM audit.newest_messages_to('+12025550100', 'sms', 'p',"
            " now() - interval '30 days')"
        ).fetchall()
        assert newest == [("acme", max(i for n, i in ids.items() if LIVES[n][2] is not None))]


def test_messages_of_version_0_1_can_be_cancelled_as_before(url: str) -> None:
    ids = {name: new_message_id() for name in LIVES}
    with psycopg.connect(url, autocommit=True) as database:
        for name, message_id in ids.items():
            fill(database, name, message_id)
    upgrade(url)
    with psycopg.connect(url, autocommit=True) as database:

        def withdrawn(name: str) -> object:
            query = "SELECT consumers.withdraw(%s, 'acme', 'sms')"
            row = database.execute(query, (ids[name],)).fetchone()
            return row and row[0]

        def deferred(name: str) -> object:
            row = database.execute("SELECT consumers.is_deferred(%s)", (ids[name],)).fetchone()
            return row and row[0]

        assert {name for name in LIVES if deferred(name)} == {"retried"}
        assert {name: withdrawn(name) for name in LIVES} == {
            **dict.fromkeys(LIVES, None),
            **dict.fromkeys(("just accepted", "scheduled", "pending"), 0),
            "retried": 1,
            "sent": None,
        }
        assert deferred("retried") is False
