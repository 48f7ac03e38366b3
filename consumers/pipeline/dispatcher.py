"""The middle of a channel process: claim, call, settle, announce; many at once, on one event loop.

Deliveries come in from the poll thread and from the deferred queue. Heads of lanes are claimed in
the ledger a batch at a time, as many as there is room for calls; each claimed one is called in a
task of its own; outcomes are settled a batch at a time; when the broker has the event that tells
what came of a message, its source is reported as done.

    submit ─► lanes ─► _claim ─► _call ─► _settle ─► announcer ─► done(source)
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from time import perf_counter

import structlog

from comms.platform import metrics
from comms.platform.clock import Clock, utc_now
from comms.platform.database import DatabaseUnavailableError
from comms.platform.settings import ChannelSettings
from consumers.ledger.decisions import (
    AlreadySettled,
    Begin,
    ClaimDecision,
    Defer,
    HoldUnknown,
    Suppress,
)
from consumers.ledger.delivery import Delivery, DeliverySource
from consumers.ledger.store import Ledger
from consumers.pipeline.claiming import CLAIM_IS_STALE, Chosen, Claimer
from consumers.pipeline.lanes import Lanes
from consumers.pipeline.metrics import CallMeters
from consumers.pipeline.selection import Chooser, is_nobody
from consumers.pipeline.settlement import Call, Settled, Settler, repeated
from consumers.routing import Choice, Router
from consumers.routing.health import ProviderHealth
from consumers.sdk.outcomes import Ambiguous, Outcome, without_side_effects
from consumers.sdk.provider import Attempt, Provider
from consumers.status.publisher import StatusPublisher
from schemas import events
from schemas.events import ProviderResponse
from schemas.messages import Message
from schemas.vocabulary import Channel, Mode, Priority, Reason, Status

log = structlog.get_logger(__name__)

CLAIM_BATCH = 200
DATABASE_PAUSE = 0.5
BUSY = 32  # calls in flight from which it pays to gather before a statement
GATHER_SECONDS = 0.01
NO_WAY_SECONDS = 0.05  # between looks for a provider that can be called


class Dispatcher:
    """Delivers messages of one channel. Everything here runs on one event loop.

    Args:
        done: told of each source whose message is settled and announced; from any thread.
        abandoned: told of each source given up before it was claimed.
        is_current: whether a source is still this process's to work on.
        failed: told of an error that nothing here can mend; the process should end.
        monotonic: seconds, by which claims grow stale and calls are timed.
    """

    def __init__(
        self,
        *,
        channel: Channel,
        settings: ChannelSettings,
        ledger: Ledger,
        router: Router,
        announcer: StatusPublisher,
        health: ProviderHealth,
        done: Callable[[DeliverySource], None],
        abandoned: Callable[[DeliverySource], None],
        is_current: Callable[[DeliverySource], bool],
        failed: Callable[[BaseException], None],
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = perf_counter,
    ) -> None:
        self._channel, self._settings, self._clock = channel, settings, clock
        self._monotonic = monotonic
        self._ledger, self._router, self._announcer = ledger, router, announcer
        self._claimer = Claimer(ledger, router, settings, clock)
        self._chooser = Chooser(router, settings.retry, clock)
        self._health, self._settler = health, Settler(settings, clock)
        self._done, self._abandoned, self._is_current = done, abandoned, is_current
        self._failed, self._stopping = failed, False
        self._lanes = Lanes()
        self._calls: set[asyncio.Task[None]] = set()
        self._outcomes: list[tuple[Delivery, Settled]] = []
        self._meters = CallMeters(channel)
        self._work, self._settling = asyncio.Event(), asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        metrics.in_flight.labels(channel).set_function(lambda: len(self._calls))
        self._send_seconds = metrics.message_send_seconds.labels(channel)
        self._waits = {p: metrics.message_wait_seconds.labels(channel, p) for p in Priority}

    def start(self) -> None:
        """Begin to work."""
        self._loops = [
            asyncio.create_task(self._claim_for_ever()),
            asyncio.create_task(self._settle_for_ever()),
        ]
        for task in self._loops:
            task.add_done_callback(self._loop_ended)

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries on."""
        for delivery in deliveries:
            self._lanes.add(delivery)
        self._work.set()

    @property
    def in_flight(self) -> int:
        """Calls being made now."""
        return len(self._calls)

    @property
    def doubt_after(self) -> float:
        """Seconds after which a claim's call cannot be running any more, wherever it was made."""
        return self._claimer.doubt_after

    @property
    def can_call(self) -> bool:
        """Whether there is a provider that is not left alone."""
        return not self._router.is_waiting

    @property
    def may_probe(self) -> bool:
        """Whether one call may find out if a provider that was left alone works again."""
        return self._router.may_probe(self._clock().timestamp())

    def discard(self) -> None:
        """Give up what has not begun and is no longer ours."""
        for delivery in self._lanes.discard(lambda d: not self._is_current(d.source)):
            self._abandoned(delivery.source)

    async def stop(self, *, within: float) -> None:
        """Finish the calls that have begun, within so many seconds; claim nothing more."""
        claiming, settling = self._loops
        self._stopping = True
        self._work.set()
        await asyncio.wait([claiming], timeout=within)
        if self._calls:
            await asyncio.wait(self._calls, timeout=within)
        self._settling.set()
        await asyncio.wait([settling], timeout=within)
        settling.cancel()

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    # Claiming

    async def _claim_for_ever(self) -> None:
        while not self._stopping:
            await self._work.wait()
            await self._gather()
            room = self._settings.concurrency - len(self._calls)
            taken = self._lanes.take(min(room, CLAIM_BATCH))
            if not taken:
                self._work.clear()
                continue
            heads = [head for head in taken if self._keep(head)]
            found = self._chooser.sort(heads)
            try:
                await self._claim(found.chosen)
            except DatabaseUnavailableError as error:
                log.warning("ledger.unavailable", problem=str(error))
                self._lanes.put_back(heads)
                await asyncio.sleep(DATABASE_PAUSE)
                continue
            if found.aside:
                self._track(asyncio.create_task(self._step_aside(found.aside)))
            if found.waiting:
                self._lanes.put_back(found.waiting, first=self._router.are_alike)
                await asyncio.sleep(NO_WAY_SECONDS)

    async def _claim(self, chosen: Sequence[Chosen]) -> None:
        if chosen:
            asked = self._monotonic()  # a claim is as old as the wish for it, or a little younger
            verdicts = await self._claimer.verdicts(chosen)
            for delivery, choice in chosen:
                self._act(delivery, choice, verdicts[id(delivery)], asked=asked)

    def _keep(self, delivery: Delivery) -> bool:
        if self._is_current(delivery.source):
            return True
        self._lanes.release(delivery)
        self._abandoned(delivery.source)
        return False

    async def _gather(self) -> None:
        """Wait a moment for more while there is much to do: a statement costs the same for one
        message as for fifty. A message that comes alone is not made to wait."""
        if len(self._calls) >= BUSY and not self._stopping:
            await asyncio.sleep(GATHER_SECONDS)

    # Acting on a verdict

    def _act(
        self, delivery: Delivery, choice: Choice, verdict: ClaimDecision, *, asked: float
    ) -> None:
        match verdict:
            case Begin(choice=other, bypassed=why):
                by = other or choice
                if by is not choice:
                    self._router.give_back(choice)
                self._begin(
                    Call.of(verdict, delivery, by.provider.name), by, asked=asked, bypassed=why
                )
            case AlreadySettled(entry=entry):
                metrics.duplicates_suppressed_total.labels("claim").inc()
                self._router.give_back(choice)
                self._finish(delivery, repeated(delivery, entry))
            case Suppress(begin=begin, why=why):
                self._router.give_back(choice)
                call = Call.of(begin, delivery, (begin.choice or choice).provider.name)
                if call.reason is Reason.RESENT:
                    self._announce_claim(call, why)
                self._settle_later(self._settler.suppressed(call, why))
            case HoldUnknown():
                self._router.give_back(choice)
                metrics.ambiguous_total.labels(self._channel).inc()
                self._settle_later(self._settler.held(delivery, verdict))
            case Defer(seconds=seconds):
                self._router.give_back(choice)
                until_begun = seconds - (self.doubt_after - CLAIM_IS_STALE)
                work = self._step_aside([(delivery, seconds)], hold=until_begun)
                self._track(asyncio.create_task(work))

    def _begin(self, call: Call, choice: Choice, *, asked: float, bypassed: str | None) -> None:
        message, now = call.delivery.message, self._clock()
        ended = self._settler.too_late(call)
        if ended is None and is_nobody(choice):
            ended = self._settler.no_way(call, choice.why)
        if ended is None or call.reason is Reason.RESENT:
            self._announce_claim(call, _with_bypass(choice.why, bypassed))
        if ended is not None:
            self._router.give_back(choice)
            self._settle_later(ended)
            return
        if call.attempt == 1:
            self._waits[message.priority].observe((now - _due(message)).total_seconds())
        if call.repeats_doubt:
            metrics.ambiguous_total.labels(self._channel).inc()
        if bypassed is not None:
            self._tell_bypass(call, bypassed)
        self._track(asyncio.create_task(self._call(call, choice.provider, asked)))

    def _announce_claim(self, call: Call, detail: str) -> None:
        """An attempt begins. A resend's is told even where no call follows: what is told of it
        afterwards belongs to the chapter that this event opens."""
        self._announcer.announce(
            events.claimed(
                call.delivery.message,
                attempt=call.attempt,
                provider=call.provider,
                at=self._clock(),
                reason=call.reason,
                detail=detail,
            )
        )

    def _tell_bypass(self, call: Call, why: str) -> None:
        message = call.delivery.message
        metrics.suppressions_bypassed_total.labels(self._channel).inc()
        log.warning(
            "suppression.bypassed",
            message_id=str(message.id),
            tenant=message.tenant,
            attempt=call.attempt,
            listed=why,
        )

    def _track(self, task: asyncio.Task[None]) -> None:
        self._calls.add(task)
        task.add_done_callback(self._call_ended)

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._work.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("dispatch.defect", exc_info=error)

    async def _step_aside(
        self, deliveries: Sequence[tuple[Delivery, float]], *, hold: float = 0.0
    ) -> None:
        """Put messages aside, and their lines on hold until a call that is being made elsewhere has
        begun, or will not begin any more: what comes after it must not arrive before it."""
        while True:
            try:
                await self._ledger.step_aside(deliveries)
            except DatabaseUnavailableError as error:
                log.warning("ledger.unavailable", problem=str(error))
                await asyncio.sleep(DATABASE_PAUSE)
            else:
                await asyncio.sleep(max(0.0, hold))
                for delivery, _ in deliveries:
                    self._finish(delivery, None)
                return

    # Calling

    async def _call(self, call: Call, provider: Provider[Message], asked: float) -> None:
        started = self._monotonic()
        if started - asked > CLAIM_IS_STALE:  # this process was stopped; somebody may have it
            await self._step_aside([(call.delivery, self._claimer.doubt_after)])
            return
        outcome = await self._outcome(call, provider)
        seconds = self._monotonic() - started
        now = self._clock()
        self._meters.count(provider.name, outcome, seconds)
        mode = call.delivery.message.mode
        if mode is not Mode.TEST:  # which tells nothing of what it does with others
            self._health.observe(provider.name, outcome, at=now)
            self._router.observe(provider.name, outcome, seconds=seconds, now=now.timestamp())
        if mode is not Mode.LIVE:
            outcome = without_side_effects(outcome)
        self._settle_later(self._settler.settle(call, outcome))

    async def _outcome(self, call: Call, provider: Provider[Message]) -> Outcome:
        message = call.delivery.message
        attempt = Attempt(
            message.id, call.attempt, call.idempotency_attempt, call.suppressed_recipients
        )
        try:
            async with asyncio.timeout(self._settings.call_timeout_seconds + CLAIM_IS_STALE):
                return await provider.send(message, attempt)
        except TimeoutError:
            return Ambiguous(response=ProviderResponse(detail="no answer in time"))
        except Exception:  # a defect of an adapter must not lose the message, nor guess
            log.exception("provider.defect", provider=provider.name, message_id=str(attempt))
            return Ambiguous(response=ProviderResponse(detail="the adapter failed in the call"))

    # Settling

    def _settle_later(self, settled: Settled) -> None:
        self._outcomes.append((settled.row.delivery, settled))
        self._settling.set()

    async def _settle_for_ever(self) -> None:
        while self._outcomes or self._calls or not self._stopping:
            await self._settling.wait()
            await self._gather()
            self._settling.clear()
            batch, self._outcomes = self._outcomes, []
            if batch:
                await self._settle(batch)

    async def _settle(self, batch: Sequence[tuple[Delivery, Settled]]) -> None:
        rows = [settled.row for _, settled in batch]
        while True:
            try:
                await self._ledger.settle(rows)
                break
            except DatabaseUnavailableError as error:
                log.warning("ledger.unavailable", problem=str(error))
                await asyncio.sleep(DATABASE_PAUSE)
        for delivery, settled in batch:
            self._observe_service_level(settled)
            if settled.before is not None:
                self._announcer.announce(settled.before)
            self._finish(delivery, settled.event)

    def _observe_service_level(self, settled: Settled) -> None:
        if settled.row.status is Status.SENT and not settled.row.is_resend:
            due = _due(settled.row.delivery.message)
            self._send_seconds.observe((settled.row.occurred_at - due).total_seconds())

    def _finish(self, delivery: Delivery, event: events.StatusEvent | None) -> None:
        """Release the lane; the source is done when the broker has the event."""
        self._lanes.release(delivery)
        self._work.set()
        if event is None:
            self._done(delivery.source)
        else:
            self._announcer.announce(event, partial(self._done, delivery.source))


def _due(message: Message) -> datetime:
    """When it could have gone at the earliest."""
    return max(message.created_at, message.send_at or message.created_at)


def _with_bypass(why: str, listed: str | None) -> str:
    """What the `sending` event says, also of an attempt that no list held back."""
    return why if listed is None else f"{why}; suppression bypassed, as the message asks: {listed}"
