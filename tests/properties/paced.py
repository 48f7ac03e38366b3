"""Messages on their way through channel processes that move one statement at a time.

`tests.properties.test_ledger` lets one of them take its next step, or ends a process between two
steps. The ledger, the claims and the decisions are the real ones, on PostgreSQL; what the
dispatcher does with one message is `Flight._deliver`, without its loops, batches and events.
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


class Where(StrEnum):
    """What a flight is about to do."""

    CLAIM = auto()
    HEAR = auto()  # the claim is made; that it is has yet to be heard here
    LOOK_UP = auto()
    CALL = auto()  # the call is about to be made
    ANSWER = auto()  # the call is running
    SETTLE = auto()
    STEP_ASIDE = auto()
    FINISH = auto()
    LANDED = auto()


class Statement(StrEnum):
    """How the next statement fares."""

    HEARD = auto()
    REFUSED = auto()  # the database is away
    UNHEARD = auto()  # it is carried out, and the answer is lost


@dataclass(slots=True)
class Pace:
    """Where one flight waits for its next step."""

    where: Where = Where.CLAIM
    go: asyncio.Future[Statement] | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self, where: Where) -> Statement:
        """Wait until told to go on."""
        self.where, self.go = where, asyncio.get_running_loop().create_future()
        self.arrived.set()
        return await self.go


class PacedLedger(Ledger):
    """The ledger, each statement of which waits for its step."""

    def __init__(self, pool: AsyncConnectionPool, pace: Pace, *, owner: UUID) -> None:
        super().__init__(pool, channel=Channel.SMS, owner=owner)
        self._pace = pace

    async def claim(self, claims: Sequence[Claim]) -> dict[UUID, Suppressions]:
        ours = await self._paced(Where.CLAIM, partial(super().claim, claims))
        await self._pace.stop(Where.HEAR)
        return ours

    async def look_up(self, deliveries: Sequence[Delivery]) -> dict[UUID, AttemptHistory]:
        return await self._paced(Where.LOOK_UP, partial(super().look_up, deliveries))

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self._paced(Where.SETTLE, partial(super().settle, settlements))

    async def defer(self, deliveries: Sequence[tuple[Delivery, float]]) -> None:
        await self._paced(Where.STEP_ASIDE, partial(super().defer, deliveries))

    async def _paced(self, where: Where, statement: Callable[[], Awaitable[T]]) -> T:
        fares = await self._pace.stop(where)
        if fares is Statement.REFUSED:
            raise DatabaseUnavailableError("it is away")
        result = await statement()
        if fares is Statement.UNHEARD:
            raise DatabaseUnavailableError("its answer was lost")
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
        outcome: what the call will come to, set before it is answered.
    """

    def __init__(self, process: Process, delivery: Delivery, choice: Choice) -> None:
        self.process, self.delivery, self._choice = process, delivery, choice
        self._pace, self._taken_off = Pace(), process.clock()
        self._ledger = PacedLedger(process.pool, self._pace, owner=process.owner)
        self._claimer = Claimer(self._ledger, process.router, process.settings, process.clock)
        self.call: Call | None = None
        self.outcome: Outcome = Ambiguous()
        self._task: asyncio.Task[None] | None = None

    @property
    def where(self) -> Where:
        return self._pace.where

    async def take_off(self) -> None:
        """Come as far as the first statement."""
        self._task = asyncio.create_task(self._deliver())
        await self._arrive()

    async def step(self, fares: Statement) -> None:
        """Do what is next, and come as far as what follows."""
        assert self._pace.go is not None
        self._pace.arrived.clear()
        self._pace.go.set_result(fares)
        await self._arrive()

    async def end(self) -> None:
        """The process is killed between two steps."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _arrive(self) -> None:
        assert self._task is not None
        arrived = asyncio.create_task(self._pace.arrived.wait())
        await asyncio.wait([self._task, arrived], return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        if self._task.done():
            self._task.result()
            self._pace.where = Where.LANDED

    # What the dispatcher does

    async def _deliver(self) -> None:
        verdict, asked = await self._verdict()
        match verdict:
            case Begin(choice=other):
                name = (other or self._choice).provider.name
                await self._make(Call.from_decision(verdict, self.delivery, name), asked)
            case AlreadySettled():
                await self._finish()
            case Suppress(begin=begin, why=why):
                call = Call.from_decision(
                    begin, self.delivery, (begin.choice or self._choice).provider.name
                )
                await self._settle(self.process.settler.suppress(call, why))
            case HoldUnknown():
                await self._settle(self.process.settler.hold(self.delivery, verdict))
            case Defer(seconds=seconds):
                await self._step_aside(seconds)
            case _:
                assert_never(verdict)

    async def _verdict(self) -> tuple[ClaimDecision, float]:
        while True:
            asked = self._now()
            try:
                [decision] = await self._claimer.claim([(self.delivery, self._choice)])
            except DatabaseUnavailableError:
                continue
            return decision, asked

    async def _make(self, call: Call, asked: float) -> None:
        await self._pace.stop(Where.CALL)
        if self._now() - asked > CLAIM_MAX_AGE:
            await self._step_aside(compute_doubt_after(self.process.settings))
            return
        self.call, began = call, self._now()
        await self._pace.stop(Where.ANSWER)
        if self._now() - began >= self.process.settings.call_timeout_seconds + CLAIM_MAX_AGE:
            self.outcome = Ambiguous()
        await self._settle(self.process.settler.settle(call, self.outcome))

    async def _settle(self, settled: SettledAttempt) -> None:
        await _until_heard(partial(self._ledger.settle, [settled.settlement]))
        await self._finish()

    async def _step_aside(self, seconds: float) -> None:
        await _until_heard(partial(self._ledger.defer, [(self.delivery, seconds)]))
        await self._finish()

    async def _finish(self) -> None:
        if isinstance(self.delivery.source, Lease):
            await self._pace.stop(Where.FINISH)
            await self._ledger.finish([self._moved_with_time(self.delivery.source)])

    def _moved_with_time(self, lease: Lease) -> Lease:
        """Time passes by moving rows back, and a lease is recognised by what stands in its row."""
        assert lease.until is not None
        return replace(lease, until=lease.until - (self.process.clock() - self._taken_off))

    def _now(self) -> float:
        return self.process.clock().timestamp()


async def _until_heard(statement: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await statement()
        except DatabaseUnavailableError:
            continue
