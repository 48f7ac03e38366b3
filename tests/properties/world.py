"""The database under `tests.properties.test_ledger`: time in it, its rows, and processes on it.

The one place that knows how the ledger is called and what its tables look like. Time is moved by
moving the rows back; the model's clock is moved with them.
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
from consumers.pipeline.recovery import FAR_BACK, RUNNING_OWNER_SECONDS
from consumers.pipeline.settlement import Settler
from consumers.routing import Choice, Route, Router
from schemas import topics
from schemas.codec import Codec
from schemas.messages import Message, SmsMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.harness import Named
from tests.properties.paced import Flight, Process, Statement

T = TypeVar("T")

SETTINGS = ChannelSettings(retry=RetryPolicy(attempts=4, base_seconds=2, cap_seconds=8))
KNOWS_REPEATS = "a"
DOUBT_AFTER = SETTINGS.call_timeout_seconds + 10
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

_FORGET = """
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
_LIVES = """
INSERT INTO consumers.worker
    (owner, channel, seen_at, in_flight, lag_messages, lag_seconds, providers)
VALUES (%s, 'sms', 'infinity', 0, 0, 0, '[]')
"""
_WAITING_NOWHERE = """
SELECT count(*) FROM consumers.outcome o
WHERE o.status = 'sending'
  AND NOT EXISTS (SELECT FROM consumers.attempt later
                  WHERE later.message_id = o.message_id AND later.attempt > o.attempt)
  AND NOT EXISTS (SELECT FROM consumers.deferred d WHERE d.message_id = o.message_id)
"""


class World:
    """A channel's ledger and the processes that share it."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.Runner()
        self._codec = Codec()
        self._pool = create_pool(url, size=2, name="test")
        self._database = psycopg.connect(url, autocommit=True)
        self.run(self._pool.open())
        self.now = 0

    def close(self) -> None:
        """Let go of the database."""
        self.run(self._pool.close())
        self._database.close()
        self._loop.close()

    def forget(self) -> None:
        """Begin again: nothing has happened."""
        self.now = 0
        self._database.execute(_FORGET)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out `work` on the processes' event loop."""
        return self._loop.run(work)

    # Processes

    def start(self, *providers: str) -> Process:
        """A channel process with these providers."""
        owner = uuid4()
        self._database.execute(_LIVES, (owner,))
        routes = [Route(Named(name), 50, knows_repeats=name == KNOWS_REPEATS) for name in providers]
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
            self.run(flight.end())
        self._database.execute("DELETE FROM consumers.worker WHERE owner = %s", (process.owner,))

    def deliver(self, process: Process, message: SmsMessage, provider: str) -> Flight:
        """The topic brings a message to a process."""
        value = self._codec.encode(message, topic=topics.of_channel(Channel.SMS))
        source = Offset((topics.of_channel(Channel.SMS), 0), 0, 1)
        return self._fly(process, Delivery(message, value, source), provider)

    def lease(self, process: Process, provider: str) -> list[Flight]:
        """A process takes what is due from the deferred queue, always in the same order."""
        leases = self.run(self._ledger(process).lease_due(10))
        leases.sort(key=lambda taken: taken[0].message_id)
        return [
            self._fly(
                process, Delivery(self._codec.decode(value, SmsMessage), value, lease), provider
            )
            for lease, value in leases
        ]

    def adopt(self, process: Process) -> None:
        """A process looks for claims that were left without an outcome."""
        self.run(
            self._ledger(process).requeue_abandoned_claims(
                claimed_within=FAR_BACK,
                older_than=DOUBT_AFTER,
                running_owner_seconds=RUNNING_OWNER_SECONDS,
            )
        )

    def step(self, flight: Flight, fares: Statement = Statement.HEARD) -> None:
        """Let a flight do what is next."""
        self.run(flight.step(fares))

    def _fly(self, process: Process, delivery: Delivery, provider: str) -> Flight:
        standing = process.router.states[provider]
        flight = Flight(process, delivery, Choice(standing.route.provider, 50, "by the test"))
        self.run(flight.take_off())
        return flight

    def _ledger(self, process: Process) -> Ledger:
        return Ledger(self._pool, channel=Channel.SMS, owner=process.owner)

    # Time, other people's doings, and what is on record

    def clock(self) -> datetime:
        """The time, as the model counts it."""
        return BEGIN + timedelta(seconds=self.now)

    def time_passes(self, seconds: int) -> None:
        """For the model's clock and the database's alike."""
        if seconds:
            self.now += seconds
            self._database.execute(_AGE, {"by": seconds})

    def withdraw(self, message: Message) -> bool:
        """Cancel a message; whether that was in time."""
        found = self._database.execute(
            "SELECT consumers.withdraw(%s, %s, 'sms')", (message.id, message.tenant)
        ).fetchone()
        return found is not None and found[0] is not None

    def suppress(self, message: Message) -> None:
        """From now on the message's recipient must not be reached."""
        self._database.execute(
            "INSERT INTO consumers.suppression (tenant, channel, recipient, reason)"
            " VALUES (%s, 'sms', %s, 'opt_out') ON CONFLICT DO NOTHING",
            (message.tenant, message.recipient),
        )

    def outcomes(self, message_id: UUID) -> dict[int, tuple[Status, Reason]]:
        """What is on record of a message's attempts."""
        found = self._database.execute(
            "SELECT attempt, status, reason FROM consumers.outcome WHERE message_id = %s",
            (message_id,),
        ).fetchall()
        return {attempt: (Status(status), Reason(reason)) for attempt, status, reason in found}

    def lost_its_worker(self, message_id: UUID) -> bool:
        """Whether nobody ever said what the call in doubt came to."""
        query = (
            "SELECT FROM consumers.outcome WHERE message_id = %s AND reason = 'ambiguous'"
            " AND detail = 'its worker was lost in the call'"
        )
        return self._database.execute(query, (message_id,)).fetchone() is not None

    def attempts(self, message_id: UUID) -> int:
        """How many attempts of a message were claimed; a withdrawal counts as the first."""
        query = "SELECT count(*) FROM consumers.attempt WHERE message_id = %s"
        found = self._database.execute(query, (message_id,)).fetchone()
        return int(found[0]) if found else 0

    def waiting_nowhere(self) -> int:
        """Messages whose last attempt asked for another, and that nothing will bring again."""
        found = self._database.execute(_WAITING_NOWHERE).fetchone()
        return int(found[0]) if found else 0

    def put_aside(self) -> int:
        """Messages that wait in the deferred queue."""
        found = self._database.execute("SELECT count(*) FROM consumers.deferred").fetchone()
        return int(found[0]) if found else 0
