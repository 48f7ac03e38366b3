"""The database under `tests.properties.test_ledger`: its time, its rows, and processes on it.

This is the only place that knows how the ledger is called and what its tables look like. Time is
moved by moving the rows back, and the model's clock is moved with them.
"""

import asyncio
import random
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from comms.platform.database import create_pool
from comms.platform.settings import ChannelSettings, RetryPolicy, RoutingPolicy
from consumers.ledger.delivery import Delivery, Offset
from consumers.ledger.store import Ledger
from consumers.pipeline.claiming import compute_doubt_after
from consumers.pipeline.recovery import FAR_BACK, RUNNING_OWNER_SECONDS
from consumers.pipeline.settlement import Settler
from consumers.routing import Choice, Route, Router
from schemas import topics
from schemas.codec import Codec
from schemas.messages import Message, SmsMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.harness import Named
from tests.properties.paced import Flight, Process, StatementResult

T = TypeVar("T")

SETTINGS = ChannelSettings(retry=RetryPolicy(attempts=4, base_seconds=2, cap_seconds=8))
WITH_IDEMPOTENCY_KEY = "a"
DOUBT_AFTER = compute_doubt_after(SETTINGS)
START = datetime(2026, 1, 1, tzinfo=UTC)

_CLEAR = """
DELETE FROM consumers.attempt; DELETE FROM consumers.outcome; DELETE FROM consumers.deferred;
DELETE FROM consumers.suppression; DELETE FROM consumers.worker;
"""
_AGE = """
WITH attempts AS (
    UPDATE consumers.attempt SET claimed_at = claimed_at - make_interval(secs => %(by)s)
)
UPDATE consumers.deferred SET due_at = due_at - make_interval(secs => %(by)s),
    leased_until = leased_until - make_interval(secs => %(by)s)
"""
_INSERT_WORKER = """
INSERT INTO consumers.worker
    (owner, channel, seen_at, in_flight, lag_messages, lag_seconds, providers)
VALUES (%s, 'sms', 'infinity', 0, 0, 0, '[]')
"""
_COUNT_UNQUEUED_RETRIES = """
SELECT count(*) FROM consumers.outcome o
WHERE o.status = 'sending'
  AND NOT EXISTS (SELECT FROM consumers.attempt later
                  WHERE later.message_id = o.message_id AND later.attempt > o.attempt)
  AND NOT EXISTS (SELECT FROM consumers.deferred d WHERE d.message_id = o.message_id)
"""


class World:
    """A channel's ledger and the processes that share it."""

    def __init__(self, url: str) -> None:
        self.now = 0
        self._runner = asyncio.Runner()
        self._codec = Codec()
        self._pool = create_pool(url, size=2, name="test")
        self._database = psycopg.connect(url, autocommit=True)
        self.run(self._pool.open())

    def close(self) -> None:
        """Close the connections."""
        self.run(self._pool.close())
        self._database.close()
        self._runner.close()

    def clear(self) -> None:
        """Begin again with an empty ledger."""
        self.now = 0
        self._database.execute(_CLEAR)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the processes' event loop."""
        return self._runner.run(work)

    # Processes

    def start(self, *providers: str) -> Process:
        """Start a channel process with these providers."""
        owner = uuid4()
        self._database.execute(_INSERT_WORKER, (owner,))
        routes = [
            Route(Named(name), 50, has_idempotency_key=name == WITH_IDEMPOTENCY_KEY)
            for name in providers
        ]
        return Process(
            owner=owner,
            pool=self._pool,
            router=Router(routes, RoutingPolicy(), source=random.Random(1)),
            settler=Settler(SETTINGS, self.clock, random.Random(1)),
            settings=SETTINGS,
            clock=self.clock,
        )

    def kill(self, process: Process, flights: list[Flight]) -> None:
        """End a process, and with it these flights."""
        for flight in flights:
            self.run(flight.kill())
        self._database.execute("DELETE FROM consumers.worker WHERE owner = %s", (process.owner,))

    def deliver(self, process: Process, message: SmsMessage, provider: str) -> Flight:
        """Bring a message to a process by the topic."""
        value = self._codec.encode(message, topic=topics.of_channel(Channel.SMS))
        source = Offset((topics.of_channel(Channel.SMS), 0), 0, 1)
        return self._start_flight(process, Delivery(message, value, source), provider)

    def lease(self, process: Process, provider: str) -> list[Flight]:
        """Let a process lease what is due from the deferred queue, always in the same order."""
        rows = self.run(self._ledger(process).lease_due(10))
        rows.sort(key=lambda row: row[0].message_id)
        return [
            self._start_flight(
                process, Delivery(self._codec.decode(value, SmsMessage), value, lease), provider
            )
            for lease, value in rows
        ]

    def requeue_abandoned(self, process: Process) -> None:
        """Let a process look for claims that were left without an outcome."""
        self.run(
            self._ledger(process).requeue_abandoned_claims(
                claimed_within=FAR_BACK,
                older_than=DOUBT_AFTER,
                running_owner_seconds=RUNNING_OWNER_SECONDS,
            )
        )

    def take_step(self, flight: Flight, ending: StatementResult = StatementResult.SUCCESS) -> None:
        """Let a flight take its next step."""
        self.run(flight.take_step(ending))

    def _start_flight(self, process: Process, delivery: Delivery, provider: str) -> Flight:
        route = process.router.states[provider].route
        flight = Flight(process, delivery, Choice(route.provider, 50, "by the test"))
        self.run(flight.start())
        return flight

    def _ledger(self, process: Process) -> Ledger:
        return Ledger(self._pool, channel=Channel.SMS, owner=process.owner)

    # Time, what senders and recipients do, and what is on record

    def clock(self) -> datetime:
        """The time, as the model counts it."""
        return START + timedelta(seconds=self.now)

    def advance_time(self, seconds: int) -> None:
        """Advance the model's clock and the database's alike."""
        if seconds:
            self.now += seconds
            self._database.execute(_AGE, {"by": seconds})

    def withdraw(self, message: Message) -> bool:
        """Cancel a message; whether that was in time."""
        row = self._database.execute(
            "SELECT consumers.withdraw(%s, %s, 'sms')", (message.id, message.tenant)
        ).fetchone()
        return row is not None and row[0] is not None

    def suppress(self, message: Message) -> None:
        """Put the message's recipient on the suppression list."""
        self._database.execute(
            "INSERT INTO consumers.suppression (tenant, channel, recipient, reason)"
            " VALUES (%s, 'sms', %s, 'opt_out') ON CONFLICT DO NOTHING",
            (message.tenant, message.recipient),
        )

    def outcomes(self, message_id: UUID) -> dict[int, tuple[Status, Reason]]:
        """The outcomes of a message's attempts."""
        rows = self._database.execute(
            "SELECT attempt, status, reason FROM consumers.outcome WHERE message_id = %s",
            (message_id,),
        ).fetchall()
        return {attempt: (Status(status), Reason(reason)) for attempt, status, reason in rows}

    def lost_its_worker(self, message_id: UUID) -> bool:
        """Whether the call in doubt has no outcome because its process died."""
        query = (
            "SELECT FROM consumers.outcome WHERE message_id = %s AND reason = 'ambiguous'"
            " AND detail = 'its worker was lost in the call'"
        )
        return self._database.execute(query, (message_id,)).fetchone() is not None

    def count_attempts(self, message_id: UUID) -> int:
        """How many attempts of a message were claimed; a withdrawal counts as the first."""
        query = "SELECT count(*) FROM consumers.attempt WHERE message_id = %s"
        row = self._database.execute(query, (message_id,)).fetchone()
        return int(row[0]) if row else 0

    def count_unqueued_retries(self) -> int:
        """Messages whose last attempt needs another, and that nothing will bring again."""
        row = self._database.execute(_COUNT_UNQUEUED_RETRIES).fetchone()
        return int(row[0]) if row else 0

    def count_deferred(self) -> int:
        """Messages in the deferred queue."""
        row = self._database.execute("SELECT count(*) FROM consumers.deferred").fetchone()
        return int(row[0]) if row else 0
