"""What the ledger promises, whoever dies when: nobody is called twice in silence, nothing is stuck.

Three processes share the ledger on PostgreSQL. The topic brings any message to any of them at any
time, again and again; flights go on one statement at a time in any order, a statement may fail or
its answer be lost, a process may end between any two steps. The model is a list of the calls that
were made of each message, and what each came to. Promises are checked when a call begins; that
every message ends, when everything that still can go on has gone on.
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
from tests.properties.paced import Flight, Statement, Where
from tests.properties.world import KNOWS_REPEATS, SETTINGS, World

PROCESSES = 3
PROVIDERS = ("a", "b")
MOST_FLIGHTS = 4
LONGEST_CALL = SETTINGS.call_timeout_seconds + CLAIM_MAX_AGE
ENDS = frozenset({Status.SENT, Status.FAILED, Status.UNKNOWN, Status.CANCELLED})

IDS = [UUID(f"01890a5d-ac96-774b-bcce-b302099a800{n}") for n in range(2)]  # the same every time
OUTCOMES: tuple[Outcome, ...] = (
    Accepted(),
    Refused(reason=Reason.REJECTED),
    TryLater(reason=Reason.PROVIDER_ERROR),
    TryLater(reason=Reason.RATE_LIMITED, after=30.0),
    Ambiguous(),
)


@dataclass(frozen=True)
class Later:
    """Time passes; then the topic brings a message to a process, or, where `message` is None, the
    process finds what was left behind and takes what is due."""

    seconds: int
    process: int
    message: int | None
    provider: str


@dataclass(frozen=True)
class GoesOn:
    """One flight takes some steps, or all take one; a call that ends comes to this."""

    which: int | None
    steps: int
    came: Outcome


@dataclass(frozen=True)
class DatabaseFails:
    """When a flight wants something of it."""

    which: int
    how: Statement


@dataclass(frozen=True)
class Dies:
    """A process ends where it is, and another takes its place."""

    process: int


@dataclass(frozen=True)
class Objection:
    """The sender withdraws a message, or its recipient wants none."""

    is_the_recipients: bool


Event = Later | GoesOn | DatabaseFails | Dies | Objection

numbers = st.integers(0, MOST_FLIGHTS)
processes = st.integers(0, PROCESSES - 1)
seconds = st.sampled_from([0, 4, 12, 26, 61, 901])
outcomes = st.sampled_from(OUTCOMES)
providers = st.sampled_from(PROVIDERS)
steps = st.builds(GoesOn, numbers, st.integers(1, 8), outcomes)
all_step = st.builds(GoesOn, st.none(), st.just(1), outcomes)
comes_by_topic = st.builds(Later, seconds, processes, st.sampled_from([0, 0, 1]), providers)
comes_from_queue = st.builds(Later, seconds, processes, st.none(), providers)
fails = st.builds(DatabaseFails, numbers, st.sampled_from([Statement.REFUSED, Statement.UNHEARD]))
kinds: list[st.SearchStrategy[Event]] = [
    *[steps] * 6,
    *[comes_by_topic] * 2,
    *[comes_from_queue] * 3,
    all_step,
    fails,
    st.builds(Dies, processes),
    st.builds(Objection, st.booleans()),
]
# One strategy for all that happens, not a rule for each: of rules, Hypothesis leaves out some in
# every example, and without the first three nothing comes of the rest.
events = st.sampled_from(kinds).flatmap(lambda kind: kind)


@dataclass
class Made:
    """A call of a provider; `outcome` stays None where its process died."""

    flight: Flight
    attempt: int
    provider: str
    began: int
    outcome: Outcome | None = None

    @property
    def sent_nothing(self) -> bool:
        return isinstance(self.outcome, TryLater)

    def may_be_doubted(self, now: int) -> bool:
        """Its answer was lost; or it cannot be running any more, wherever it was made."""
        return isinstance(self.outcome, Ambiguous) or now - self.began >= LONGEST_CALL


class ProcessesShareALedger(RuleBasedStateMachine):
    """Two messages: one is held in doubt or repeated, one is withdrawn or its recipient objects."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.forget()
        self.processes = [self.world.start(*PROVIDERS) for _ in range(PROCESSES)]
        self.messages = [sms(f"+1202555010{n}", id=id) for n, id in enumerate(IDS)]
        self.meddled_with = self.messages[1]
        self.flights: list[Flight] = []
        self.calls: dict[UUID, list[Made]] = defaultdict(list)
        self.withdrawn: set[UUID] = set()
        self.suppressed: set[UUID] = set()
        self.forewarned: set[Flight] = set()  # they claimed what must not reach its recipient

    # What happens

    @initialize(resend_request=st.sampled_from([None, None, OnDoubt.HOLD]))
    def begin(self, resend_request: OnDoubt | None) -> None:
        self.messages[0] = replace(self.messages[0], on_doubt=resend_request)

    @rule(event=events)
    def happens(self, event: Event) -> None:
        match event:
            case Later():
                self._later(event)
            case GoesOn(which=None, came=came):
                for flight in list(self.flights):
                    self._step(flight, Statement.HEARD, came)
            case GoesOn(which=int(which), steps=steps, came=came):
                self._goes_on(which, steps, came)
            case DatabaseFails(which=which, how=how) if self.flights:
                self._step(self.flights[which % len(self.flights)], how, Ambiguous())
            case Dies(process=process):
                self._dies(process)
            case Objection(is_the_recipients=is_the_recipients):
                self._objects(is_the_recipients)

    def _later(self, event: Later) -> None:
        self.world.time_passes(event.seconds)
        process = self.processes[event.process]
        if len(self.flights) >= MOST_FLIGHTS:
            return
        if event.message is None:
            self.world.adopt(process)
            self.flights += self.world.lease(process, event.provider)
        else:
            message = self.messages[event.message]
            self.flights.append(self.world.deliver(process, message, event.provider))

    def _goes_on(self, which: int, steps: int, came: Outcome) -> None:
        if self.flights:
            flight = self.flights[which % len(self.flights)]
            for _ in range(steps):
                if flight in self.flights:
                    self._step(flight, Statement.HEARD, came)

    def _dies(self, process: int) -> None:
        dead = self.processes[process]
        lost = [flight for flight in self.flights if flight.process is dead]
        self.flights = [flight for flight in self.flights if flight.process is not dead]
        self.world.kill(dead, lost)
        self.processes[process] = self.world.start(*PROVIDERS)

    def _objects(self, is_the_recipient: bool) -> None:
        wanted = self.meddled_with
        if is_the_recipient:
            self.world.suppress(wanted)
            self.suppressed.add(wanted.id)
        elif self.world.withdraw(wanted):
            assert all(call.sent_nothing for call in self.calls[wanted.id])
            self.withdrawn.add(wanted.id)

    # One step of one flight

    def _step(self, flight: Flight, fares: Statement, came: Outcome) -> None:
        before, message = flight.where, flight.delivery.message
        if before is Where.CLAIM and message.id in self.suppressed:
            self.forewarned.add(flight)
        flight.outcome = came
        self.world.step(flight, fares)
        if before is Where.CALL and flight.where is Where.ANSWER:
            self._call_begins(flight)
        if before is Where.ANSWER:
            self._made_by(flight).outcome = flight.outcome
        if flight.where is Where.LANDED:
            self.flights.remove(flight)

    def _made_by(self, flight: Flight) -> Made:
        return next(m for m in self.calls[flight.delivery.message.id] if m.flight is flight)

    def _call_begins(self, flight: Flight) -> None:
        assert flight.call is not None
        message, call = flight.delivery.message, flight.call
        made = Made(flight, call.attempt, call.provider, self.world.now)
        self.calls[message.id].append(made)
        self._check(message, made)

    # The promises

    def _check(self, message: Message, made: Made) -> None:
        *earlier, _ = self.calls[message.id]
        on_record = self.world.outcomes(message.id)
        assert message.id not in self.withdrawn
        assert made.flight not in self.forewarned
        assert not [status for status, _ in on_record.values() if status in ENDS]
        assert made.attempt not in {other.attempt for other in earlier}
        for other in earlier:
            is_in_doubt = on_record.get(other.attempt) == (Status.SENDING, Reason.AMBIGUOUS)
            may_be = is_in_doubt and other.may_be_doubted(self.world.now)
            assert other.sent_nothing or may_be
            if is_in_doubt:  # every provider can always be called here
                is_the_same = made.provider == other.provider
                stays = other.provider == KNOWS_REPEATS or self.world.lost_its_worker(message.id)
                assert is_the_same == stays
        doubts = [reason for _, reason in on_record.values() if reason is Reason.AMBIGUOUS]
        assert len(doubts) <= (0 if message.on_doubt is OnDoubt.HOLD else 1)

    @invariant()
    def whatever_is_to_be_tried_again_waits_for_it(self) -> None:
        """Not in the memory of a process: in the queue."""
        assert self.world.waiting_nowhere() == 0

    def teardown(self) -> None:
        """The power fails, and comes back. Then everything that can go on goes on, and every
        message comes to its end."""
        for process in range(PROCESSES):
            self._dies(process)
        try:
            self._all_end()
        finally:
            for dead in self.processes:
                self.world.kill(dead, [f for f in self.flights if f.process is dead])

    def _all_end(self) -> None:
        """From the ledger alone, but for a message that was never claimed: that one waits in the
        outbox, and the topic brings it."""
        for _ in range(3 * SETTINGS.retry.attempts):
            self.world.time_passes(901)
            self.world.adopt(self.processes[0])
            self.flights += self.world.lease(self.processes[0], PROVIDERS[0])
            for message in self.messages:
                if not self.world.attempts(message.id):
                    new = self.world.deliver(self.processes[1], message, PROVIDERS[1])
                    self.flights.append(new)
            if not self.flights:
                break
            while self.flights:
                self._step(self.flights[0], Statement.HEARD, Accepted())
        assert not self.world.put_aside()
        for message in self.messages:
            self._has_ended(message)

    def _has_ended(self, message: Message) -> None:
        on_record = self.world.outcomes(message.id)
        last = self.world.attempts(message.id)
        assert last in on_record
        status, _ = on_record[last]
        assert status in ENDS
        assert (status is Status.CANCELLED) == (message.id in self.withdrawn)
        if status is Status.SENT:
            assert isinstance(self.calls[message.id][-1].outcome, Accepted)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    cycle_start = World(database_url)
    yield cycle_start
    cycle_start.close()


def test_processes_share_a_ledger(world: World) -> None:
    class OnThisDatabase(ProcessesShareALedger):
        pass

    OnThisDatabase.world = world
    run_state_machine_as_test(OnThisDatabase, settings=effort(200, steps=50))
