"""Whose turn it is: in order within a key, one at a time, and nobody waits for ever.

`RecipientQueues` against a line per key; `FairQueue` against a bound on the turns that a message
waits, which depends on how many stand before it in its own line and on nothing that arrives after
it.
"""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumers.ledger.delivery import Delivery, Offset
from consumers.pipeline.fair_queue import TURNS, FairQueue
from consumers.pipeline.recipient_queues import RecipientQueues
from schemas.vocabulary import Priority
from tests.consumers.harness import sms
from tests.properties.effort import effort

TENANTS = ("acme", "globex", "initech")

tenants = st.sampled_from(TENANTS)
priorities = st.sampled_from(Priority)


def delivery(tenant: str, priority: Priority, *, to: str = "a") -> Delivery:
    message = sms(to, tenant=tenant, priority=priority)
    return Delivery(message, b"", Offset(("comms.sms", 0), 0, 1))


@dataclass
class Line:
    """One key's deliveries in the order of their arrival; `begun` while its head is worked on."""

    waiting: deque[Delivery] = field(default_factory=deque)
    begun: Delivery | None = None

    @property
    def is_ready(self) -> bool:
        return self.begun is None and bool(self.waiting)


class LinesOfRecipients(RuleBasedStateMachine):
    """Deliveries arrive, begin, are put back, settled and given up."""

    @initialize()
    def begin(self) -> None:
        self.lanes = RecipientQueues()
        self.lines: dict[str, Line] = {}

    @rule(tenant=tenants, to=st.sampled_from("ab"), priority=priorities)
    def arrives(self, tenant: str, to: str, priority: Priority) -> None:
        new = delivery(tenant, priority, to=to)
        self.lanes.add(new)
        self.lines.setdefault(new.message.key, Line()).waiting.append(new)

    @rule(most=st.integers(0, 7), back=st.integers(0, 7))
    def are_taken(self, most: int, back: int) -> None:
        """As many as were asked for, each the first of its line; the last `back` cannot begin."""
        ready = sum(line.is_ready for line in self.lines.values())
        taken = self.lanes.take(most)
        assert len(taken) == min(most, ready)
        for head in taken:
            line = self.lines[head.message.key]
            assert line.begun is None
            assert head is line.waiting[0]
            line.begun = line.waiting.popleft()
        returned = taken[max(0, len(taken) - back) :]
        self.lanes.put_back(returned)
        for head in returned:
            line = self.lines[head.message.key]
            line.begun = None
            line.waiting.appendleft(head)

    @precondition(lambda self: any(line.begun for line in self.lines.values()))
    @rule(data=st.data())
    def is_settled(self, data: st.DataObject) -> None:
        begun = [line for line in self.lines.values() if line.begun is not None]
        line = data.draw(st.sampled_from(begun))
        assert line.begun is not None
        self.lanes.release(line.begun)
        line.begun = None

    @rule(tenant=tenants, priority=priorities)
    def are_given_up(self, tenant: str, priority: Priority) -> None:
        """Those that wait; what has begun ends as it ends."""

        def unwanted(one: Delivery) -> bool:
            return (one.message.tenant, one.message.priority) == (tenant, priority)

        expected = {id(d) for line in self.lines.values() for d in line.waiting if unwanted(d)}
        assert {id(gone) for gone in self.lanes.discard(unwanted)} == expected
        for line in self.lines.values():
            line.waiting = deque(d for d in line.waiting if not unwanted(d))

    @invariant()
    def as_many_are_ready_as_lines_have_a_head_that_may_begin(self) -> None:
        assert len(self.lanes) == sum(line.is_ready for line in self.lines.values())

    def teardown(self) -> None:
        """Everything that was not given up is handed out, once, and nothing is left."""
        if not hasattr(self, "lanes"):
            return
        for line in self.lines.values():
            if line.begun is not None:
                self.lanes.release(line.begun)
                line.begun = None
        while taken := self.lanes.take(3):
            for head in taken:
                assert head is self.lines[head.message.key].waiting.popleft()
                self.lanes.release(head)
        assert not any(line.waiting for line in self.lines.values())


class TurnsUnderAFlood(RuleBasedStateMachine):
    """Whatever arrives, each message is taken within the turns it was promised on arrival."""

    @initialize()
    def begin(self) -> None:
        self.queue = FairQueue()
        self.turn = 0
        self.at_the_latest: dict[int, int] = {}
        self.waiting: list[Delivery] = []

    @rule(tenant=tenants, priority=priorities, count=st.integers(1, 30))
    def arrive(self, tenant: str, priority: Priority, count: int) -> None:
        for _ in range(count):
            new = delivery(tenant, priority)
            self.queue.add(new)
            self.waiting.append(new)
            self.at_the_latest[id(new)] = self.turn + self._patience(new)

    @rule(most=st.integers(1, 40))
    def are_taken(self, most: int) -> None:
        taken = self.queue.take(most)
        assert len(taken) == min(most, len(self.waiting))
        for one in taken:
            self.turn += 1
            assert self.turn <= self.at_the_latest[id(one)]
            assert one is next(d for d in self.waiting if _line(d) == _line(one))
            self.waiting.remove(one)

    @invariant()
    def nobody_waits_longer_than_was_promised(self) -> None:
        assert len(self.queue) == len(self.waiting)
        for one in self.waiting:
            assert self.turn < self.at_the_latest[id(one)]

    def _patience(self, new: Delivery) -> int:
        """Those before it in its line and it, with a turn of every tenant to each: so many turns
        of its priority. A round gives that priority its share; the present round may have none
        left."""
        before = sum(_line(one) == _line(new) for one in self.waiting)
        turns = before * len(TENANTS)
        rounds = -(-turns // TURNS[new.message.priority]) + 1
        return rounds * sum(TURNS.values())


def _line(one: Delivery) -> tuple[str, Priority]:
    return one.message.tenant, one.message.priority


TestLinesOfRecipients = LinesOfRecipients.TestCase
TestLinesOfRecipients.settings = effort(100, steps=40)
TestTurnsUnderAFlood = TurnsUnderAFlood.TestCase
TestTurnsUnderAFlood.settings = effort(60, steps=30)
