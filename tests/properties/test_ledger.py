"""The ledger's promises, whichever process dies when: no silent second call, nothing is stuck.

Three processes share the ledger on PostgreSQL. The topic brings any message to any of them at any
time, again and again. Flights take one step at a time, in any order. A statement may fail or its
result be lost, and a process may end between any two steps. The model is a list of the calls that
were made of each message, with their outcomes. The test checks the promises when a call begins. It
checks that every message ends once everything that can still continue has done so.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from consumers.pipeline.claiming import CLAIM_MAX_AGE
from consumers.sdk.outcomes import Accepted, Ambiguous, Outcome, Refused, TryLater
from schemas.messages import Message
from schemas.vocabulary import OnDoubt, Reason, Status
from tests.consumers.harness import sms
from tests.properties.effort import effort
from tests.properties.paced import Flight, StatementResult, Step
from tests.properties.world import SETTINGS, WITH_IDEMPOTENCY_KEY, World

PROCESSES = 3
PROVIDERS = ("a", "b")
MAX_FLIGHTS = 4
LONGEST_CALL = SETTINGS.call_timeout_seconds + CLAIM_MAX_AGE
FINAL_STATUSES = frozenset({Status.SENT, Status.FAILED, Status.UNKNOWN, Status.CANCELLED})

IDS = [UUID(f"01890a5d-ac96-774b-bcce-b302099a800{n}") for n in range(2)]  # the same every time
OUTCOMES: tuple[Outcome, ...] = (
    Accepted(),
    Refused(reason=Reason.REJECTED),
    TryLater(reason=Reason.PROVIDER_ERROR),
    TryLater(reason=Reason.RATE_LIMITED, after=30.0),
    Ambiguous(),
)


@dataclass(frozen=True)
class Arrival:
    """Time passes; then the topic brings a message to a process.

    If `message` is None, the process requeues abandoned claims and leases what is due instead.
    """

    seconds: int
    process: int
    message: int | None
    provider: str


@dataclass(frozen=True)
class Steps:
    """One flight takes some steps, or each takes one; a call that ends has this outcome."""

    flight: int | None
    count: int
    outcome: Outcome


@dataclass(frozen=True)
class DatabaseFailure:
    """The next statement of a flight fails."""

    flight: int
    ending: StatementResult


@dataclass(frozen=True)
class Crash:
    """A process ends where it is, and another takes its place."""

    process: int


@dataclass(frozen=True)
class Withdrawal:
    """The sender cancels a message, or its recipient opts out."""

    by_recipient: bool


Event = Arrival | Steps | DatabaseFailure | Crash | Withdrawal

numbers = st.integers(0, MAX_FLIGHTS)
processes = st.integers(0, PROCESSES - 1)
seconds = st.sampled_from([0, 4, 12, 26, 61, 901])
outcomes = st.sampled_from(OUTCOMES)
providers = st.sampled_from(PROVIDERS)
steps = st.builds(Steps, numbers, st.integers(1, 8), outcomes)
steps_of_all = st.builds(Steps, st.none(), st.just(1), outcomes)
arrivals_by_topic = st.builds(Arrival, seconds, processes, st.sampled_from([0, 0, 1]), providers)
arrivals_by_queue = st.builds(Arrival, seconds, processes, st.none(), providers)
database_failures = st.builds(
    DatabaseFailure,
    numbers,
    st.sampled_from([StatementResult.REFUSED, StatementResult.RESULT_LOST]),
)
kinds: list[st.SearchStrategy[Event]] = [
    *[steps] * 6,
    *[arrivals_by_topic] * 2,
    *[arrivals_by_queue] * 3,
    steps_of_all,
    database_failures,
    st.builds(Crash, processes),
    st.builds(Withdrawal, st.booleans()),
]
# One strategy for all events, not a rule for each: Hypothesis leaves out some rules in every
# example, and without the first three kinds nothing happens in the rest.
events = st.sampled_from(kinds).flatmap(lambda kind: kind)


@dataclass
class ModelCall:
    """A call of a provider; `outcome` stays None if its process died."""

    flight: Flight
    attempt: int
    provider: str
    started: int
    outcome: Outcome | None = None

    @property
    def sent_nothing(self) -> bool:
        return isinstance(self.outcome, TryLater)

    def may_be_doubted(self, now: int) -> bool:
        """Its answer was lost; or it cannot be running any more, in any process."""
        return isinstance(self.outcome, Ambiguous) or now - self.started >= LONGEST_CALL


class LedgerMachine(RuleBasedStateMachine):
    """Two messages: one is held in doubt or repeated, one is withdrawn or suppressed."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.clear()
        self.processes = [self.world.start(*PROVIDERS) for _ in range(PROCESSES)]
        self.messages = [sms(f"+1202555010{n}", id=id) for n, id in enumerate(IDS)]
        self.withdrawable = self.messages[1]
        self.flights: list[Flight] = []
        self.calls: dict[UUID, list[ModelCall]] = defaultdict(list)
        self.withdrawn: set[UUID] = set()
        self.suppressed: set[UUID] = set()
        # Flights that claimed after their recipient was suppressed.
        self.claimed_when_suppressed: set[Flight] = set()

    # Events

    @initialize(on_doubt=st.sampled_from([None, None, OnDoubt.HOLD]))
    def start(self, on_doubt: OnDoubt | None) -> None:
        self.messages[0] = replace(self.messages[0], on_doubt=on_doubt)

    @rule(event=events)
    def apply(self, event: Event) -> None:
        match event:
            case Arrival():
                self._arrive(event)
            case Steps(flight=None, outcome=outcome):
                for flight in list(self.flights):
                    self._take_step(flight, StatementResult.SUCCESS, outcome)
            case Steps(flight=int(number), count=count, outcome=outcome):
                self._take_steps(number, count, outcome)
            case DatabaseFailure(flight=number, ending=ending) if self.flights:
                self._take_step(self.flights[number % len(self.flights)], ending, Ambiguous())
            case Crash(process=process):
                self._crash(process)
            case Withdrawal(by_recipient=by_recipient):
                self._withdraw(by_recipient)

    def _arrive(self, event: Arrival) -> None:
        self.world.advance_time(event.seconds)
        process = self.processes[event.process]
        if len(self.flights) >= MAX_FLIGHTS:
            return
        if event.message is None:
            self.world.requeue_abandoned(process)
            self.flights += self.world.lease(process, event.provider)
        else:
            message = self.messages[event.message]
            self.flights.append(self.world.deliver(process, message, event.provider))

    def _take_steps(self, number: int, count: int, outcome: Outcome) -> None:
        if self.flights:
            flight = self.flights[number % len(self.flights)]
            for _ in range(count):
                if flight in self.flights:
                    self._take_step(flight, StatementResult.SUCCESS, outcome)

    def _crash(self, process: int) -> None:
        dead = self.processes[process]
        lost = [flight for flight in self.flights if flight.process is dead]
        self.flights = [flight for flight in self.flights if flight.process is not dead]
        self.world.kill(dead, lost)
        self.processes[process] = self.world.start(*PROVIDERS)

    def _withdraw(self, by_recipient: bool) -> None:
        message = self.withdrawable
        if by_recipient:
            self.world.suppress(message)
            self.suppressed.add(message.id)
        elif self.world.withdraw(message):
            assert all(call.sent_nothing for call in self.calls[message.id])
            self.withdrawn.add(message.id)

    # One step of one flight

    def _take_step(self, flight: Flight, ending: StatementResult, outcome: Outcome) -> None:
        step, message = flight.next_step, flight.delivery.message
        if step is Step.CLAIM and message.id in self.suppressed:
            self.claimed_when_suppressed.add(flight)
        flight.outcome = outcome
        self.world.take_step(flight, ending)
        if step is Step.CALL and flight.next_step is Step.ANSWER:
            self._begin_call(flight)
        if step is Step.ANSWER:
            self._find_call(flight).outcome = flight.outcome
        if flight.next_step is Step.DONE:
            self.flights.remove(flight)

    def _find_call(self, flight: Flight) -> ModelCall:
        return next(c for c in self.calls[flight.delivery.message.id] if c.flight is flight)

    def _begin_call(self, flight: Flight) -> None:
        assert flight.call is not None
        message, attempt = flight.delivery.message, flight.call
        call = ModelCall(flight, attempt.attempt, attempt.provider, self.world.now)
        self.calls[message.id].append(call)
        self._check(message, call)

    # The promises

    def _check(self, message: Message, call: ModelCall) -> None:
        *earlier_calls, _ = self.calls[message.id]
        recorded = self.world.outcomes(message.id)
        assert message.id not in self.withdrawn
        assert call.flight not in self.claimed_when_suppressed
        assert not [status for status, _ in recorded.values() if status in FINAL_STATUSES]
        assert call.attempt not in {other.attempt for other in earlier_calls}
        for other in earlier_calls:
            is_in_doubt = recorded.get(other.attempt) == (Status.SENDING, Reason.AMBIGUOUS)
            may_be_repeated = is_in_doubt and other.may_be_doubted(self.world.now)
            assert other.sent_nothing or may_be_repeated
            if is_in_doubt:  # every provider can always be called here
                is_same = call.provider == other.provider
                must_be_same = other.provider == WITH_IDEMPOTENCY_KEY or self.world.lost_its_worker(
                    message.id
                )
                assert is_same == must_be_same
        doubts = [reason for _, reason in recorded.values() if reason is Reason.AMBIGUOUS]
        assert len(doubts) <= (0 if message.on_doubt is OnDoubt.HOLD else 1)

    @invariant()
    def every_retry_is_queued(self) -> None:
        """It is in the queue, not in the memory of a process."""
        assert self.world.count_unqueued_retries() == 0

    def teardown(self) -> None:
        """Restart all processes. Then everything that can continue does, and every message ends."""
        for process in range(PROCESSES):
            self._crash(process)
        try:
            self._end_all()
        finally:
            for dead in self.processes:
                self.world.kill(dead, [f for f in self.flights if f.process is dead])

    def _end_all(self) -> None:
        """End every message from the ledger alone.

        A message that was never claimed waits in the outbox, and the topic brings it.
        """
        for _ in range(3 * SETTINGS.retry.attempts):
            self.world.advance_time(901)
            self.world.requeue_abandoned(self.processes[0])
            self.flights += self.world.lease(self.processes[0], PROVIDERS[0])
            for message in self.messages:
                if not self.world.count_attempts(message.id):
                    flight = self.world.deliver(self.processes[1], message, PROVIDERS[1])
                    self.flights.append(flight)
            if not self.flights:
                break
            while self.flights:
                self._take_step(self.flights[0], StatementResult.SUCCESS, Accepted())
        assert not self.world.count_deferred()
        for message in self.messages:
            self._check_ended(message)

    def _check_ended(self, message: Message) -> None:
        recorded = self.world.outcomes(message.id)
        last = self.world.count_attempts(message.id)
        assert last in recorded
        status, _ = recorded[last]
        assert status in FINAL_STATUSES
        assert (status is Status.CANCELLED) == (message.id in self.withdrawn)
        if status is Status.SENT:
            assert isinstance(self.calls[message.id][-1].outcome, Accepted)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    opened = World(database_url)
    yield opened
    opened.close()


def test_processes_that_share_a_ledger_keep_its_promises(world: World) -> None:
    class MachineOnThisDatabase(LedgerMachine):
        pass

    MachineOnThisDatabase.world = world
    run_state_machine_as_test(MachineOnThisDatabase, settings=effort(200, steps=50))
