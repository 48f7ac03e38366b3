"""Deliveries on their way through channel processes that move one statement at a time.

`tests.properties.test_ledger` lets a delivery take its next step, or ends a process between two
steps. The ledger, the claims and the decisions are the real ones, on PostgreSQL. What the
dispatcher's parts do with one message is `Flight._deliver`, without loops, batches and events.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import partial
from typing import TypeVar, assert_never
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from comms.platform.clock import Clock
from comms.platform.database import DatabaseUnavailableError
from comms.platform.settings import ChannelSettings
from consumers.ledger.decisions import (
    AlreadySettled,
    AttemptHistory,
    Begin,
    ClaimDecision,
    Defer,
    HoldUnknown,
    Suppress,
)
from consumers.ledger.delivery import Delivery, Lease
from consumers.ledger.store import Claim, Ledger, Settlement, Suppressions
from consumers.pipeline.claiming import CLAIM_MAX_AGE, Claimer, compute_doubt_after
from consumers.pipeline.settlement import Call, SettledAttempt, Settler
from consumers.routing import Choice, Router
from consumers.sdk.outcomes import Ambiguous, Outcome
from schemas.vocabulary import Channel

T = TypeVar("T")


class Step(StrEnum):
    """What a flight is about to do."""

    CLAIM = auto()
    RECEIVE_CLAIM = auto()  # the claim is made, and its result has yet to arrive here
    LOOK_UP = auto()
    CALL = auto()  # the call is about to be made
    ANSWER = auto()  # the call is running
    SETTLE = auto()
    DEFER = auto()
    FINISH = auto()
    DONE = auto()


class StatementResult(StrEnum):
    """How the next statement ends."""

    SUCCESS = auto()
    REFUSED = auto()  # the database is unavailable
    RESULT_LOST = auto()  # it is carried out, and its result is lost


@dataclass(slots=True)
class Gate:
    """Where one flight waits for its next step."""

    step: Step = Step.CLAIM
    pass_on: asyncio.Future[StatementResult] | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, step: Step) -> StatementResult:
        """Wait until the test lets the flight take the step."""
        self.step = step
        self.pass_on = asyncio.get_running_loop().create_future()
        self.arrived.set()
        return await self.pass_on


class PacedLedger(Ledger):
    """The ledger, each statement of which waits for its step."""

    def __init__(self, pool: AsyncConnectionPool, gate: Gate, *, owner: UUID) -> None:
        super().__init__(pool, channel=Channel.SMS, owner=owner)
        self._gate = gate

    async def claim(self, claims: Sequence[Claim]) -> dict[UUID, Suppressions]:
        claimed = await self._execute(Step.CLAIM, partial(super().claim, claims))
        await self._gate.wait(Step.RECEIVE_CLAIM)
        return claimed

    async def look_up(self, deliveries: Sequence[Delivery]) -> dict[UUID, AttemptHistory]:
        return await self._execute(Step.LOOK_UP, partial(super().look_up, deliveries))

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self._execute(Step.SETTLE, partial(super().settle, settlements))

    async def defer(self, deferrals: Sequence[tuple[Delivery, float]]) -> None:
        await self._execute(Step.DEFER, partial(super().defer, deferrals))

    async def _execute(self, step: Step, statement: Callable[[], Awaitable[T]]) -> T:
        ending = await self._gate.wait(step)
        if ending is StatementResult.REFUSED:
            raise DatabaseUnavailableError("it is unavailable")
        result = await statement()
        if ending is StatementResult.RESULT_LOST:
            raise DatabaseUnavailableError("its result was lost")
        return result


@dataclass(frozen=True, slots=True)
class Process:
    """What the flights of one channel process share."""

    owner: UUID
    pool: AsyncConnectionPool
    router: Router
    settler: Settler
    settings: ChannelSettings
    clock: Clock


class Flight:
    """One delivery in one process, from its claim until its source is done.

    Attributes:
        call: the attempt that is being made, or was.
        outcome: what the call will come to; set before it is answered.
    """

    def __init__(self, process: Process, delivery: Delivery, choice: Choice) -> None:
        self.process = process
        self.delivery = delivery
        self.call: Call | None = None
        self.outcome: Outcome = Ambiguous()
        self._choice = choice
        self._gate = Gate()
        self._started_at = process.clock()
        self._ledger = PacedLedger(process.pool, self._gate, owner=process.owner)
        self._claimer = Claimer(self._ledger, process.router, process.settings, process.clock)
        self._task: asyncio.Task[None] | None = None

    @property
    def next_step(self) -> Step:
        return self._gate.step

    async def start(self) -> None:
        """Come as far as the first statement."""
        self._task = asyncio.create_task(self._deliver())
        await self._wait_for_arrival()

    async def take_step(self, ending: StatementResult) -> None:
        """Take the next step, and come as far as the one after it."""
        assert self._gate.pass_on is not None
        self._gate.arrived.clear()
        self._gate.pass_on.set_result(ending)
        await self._wait_for_arrival()

    async def kill(self) -> None:
        """End it between two steps, with its process."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _wait_for_arrival(self) -> None:
        assert self._task is not None
        arrival = asyncio.create_task(self._gate.arrived.wait())
        await asyncio.wait([self._task, arrival], return_when=asyncio.FIRST_COMPLETED)
        arrival.cancel()
        if self._task.done():
            self._task.result()
            self._gate.step = Step.DONE

    # What the parts of the dispatcher do with one message.

    async def _deliver(self) -> None:
        decision, claimed_at = await self._claim()
        match decision:
            case Begin(choice=other):
                name = (other or self._choice).provider.name
                await self._make(Call.from_decision(decision, self.delivery, name), claimed_at)
            case AlreadySettled():
                await self._finish()
            case Suppress(begin=begin, why=why):
                name = (begin.choice or self._choice).provider.name
                call = Call.from_decision(begin, self.delivery, name)
                await self._settle(self.process.settler.suppress(call, why))
            case HoldUnknown():
                await self._settle(self.process.settler.hold(self.delivery, decision))
            case Defer(seconds=seconds):
                await self._defer(seconds)
            case _:
                assert_never(decision)

    async def _claim(self) -> tuple[ClaimDecision, float]:
        while True:
            claimed_at = self._now()
            try:
                [decision] = await self._claimer.claim([(self.delivery, self._choice)])
            except DatabaseUnavailableError:
                continue
            return decision, claimed_at

    async def _make(self, call: Call, claimed_at: float) -> None:
        await self._gate.wait(Step.CALL)
        if self._now() - claimed_at > CLAIM_MAX_AGE:
            await self._defer(compute_doubt_after(self.process.settings))
            return
        self.call, started = call, self._now()
        await self._gate.wait(Step.ANSWER)
        if self._now() - started >= self.process.settings.call_timeout_seconds + CLAIM_MAX_AGE:
            self.outcome = Ambiguous()
        await self._settle(self.process.settler.settle(call, self.outcome))

    async def _settle(self, attempt: SettledAttempt) -> None:
        await _retry(partial(self._ledger.settle, [attempt.settlement]))
        await self._finish()

    async def _defer(self, seconds: float) -> None:
        await _retry(partial(self._ledger.defer, [(self.delivery, seconds)]))
        await self._finish()

    async def _finish(self) -> None:
        if isinstance(self.delivery.source, Lease):
            await self._gate.wait(Step.FINISH)
            await self._ledger.finish([self._move_with_time(self.delivery.source)])

    def _move_with_time(self, lease: Lease) -> Lease:
        """Time passes by moving rows back, and a lease is recognised by the time in its row."""
        assert lease.until is not None
        return replace(lease, until=lease.until - (self.process.clock() - self._started_at))

    def _now(self) -> float:
        return self.process.clock().timestamp()


async def _retry(statement: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await statement()
        except DatabaseUnavailableError:
            continue
