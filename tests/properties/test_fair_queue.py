"""Fair queueing: in order within a key, one message at a time, and no message waits for ever.

`RecipientQueues` is compared with a queue per key. `FairQueue` is compared with a limit on the
turns that a message waits. The limit depends on how many messages stand before it in its own
tenant's queue, and on nothing that arrives after it.
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
class ModelQueue:
    """One key's deliveries in order of arrival; `head` is being worked on."""

    waiting: deque[Delivery] = field(default_factory=deque)
    head: Delivery | None = None

    @property
    def is_ready(self) -> bool:
        return self.head is None and bool(self.waiting)


class RecipientQueuesMachine(RuleBasedStateMachine):
    """Deliveries arrive, begin, are put back, settled and discarded."""

    @initialize()
    def start(self) -> None:
        self.queues = RecipientQueues()
        self.models: dict[str, ModelQueue] = {}

    @rule(tenant=tenants, to=st.sampled_from("ab"), priority=priorities)
    def add(self, tenant: str, to: str, priority: Priority) -> None:
        new = delivery(tenant, priority, to=to)
        self.queues.add(new)
        self.models.setdefault(new.message.key, ModelQueue()).waiting.append(new)

    @rule(limit=st.integers(0, 7), back=st.integers(0, 7))
    def take(self, limit: int, back: int) -> None:
        """Take the heads of queues; the last `back` of them are put back."""
        ready = sum(model.is_ready for model in self.models.values())
        taken = self.queues.take(limit)
        assert len(taken) == min(limit, ready)
        for head in taken:
            model = self.models[head.message.key]
            assert model.head is None
            assert head is model.waiting[0]
            model.head = model.waiting.popleft()
        returned = taken[max(0, len(taken) - back) :]
        self.queues.put_back(returned)
        for head in returned:
            model = self.models[head.message.key]
            model.head = None
            model.waiting.appendleft(head)

    @precondition(lambda self: any(model.head for model in self.models.values()))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        busy = [model for model in self.models.values() if model.head is not None]
        model = data.draw(st.sampled_from(busy))
        assert model.head is not None
        self.queues.release(model.head)
        model.head = None

    @rule(tenant=tenants, priority=priorities)
    def discard(self, tenant: str, priority: Priority) -> None:
        """Discard deliveries that wait; those that have begun stay."""

        def is_unwanted(item: Delivery) -> bool:
            return (item.message.tenant, item.message.priority) == (tenant, priority)

        expected = {
            id(d) for model in self.models.values() for d in model.waiting if is_unwanted(d)
        }
        assert {id(removed) for removed in self.queues.discard(is_unwanted)} == expected
        for model in self.models.values():
            model.waiting = deque(d for d in model.waiting if not is_unwanted(d))

    @invariant()
    def count_is_that_of_ready_queues(self) -> None:
        assert len(self.queues) == sum(model.is_ready for model in self.models.values())

    def teardown(self) -> None:
        """Everything that was not discarded is taken once, and nothing is left."""
        if not hasattr(self, "queues"):
            return
        for model in self.models.values():
            if model.head is not None:
                self.queues.release(model.head)
                model.head = None
        while taken := self.queues.take(3):
            for head in taken:
                assert head is self.models[head.message.key].waiting.popleft()
                self.queues.release(head)
        assert not any(model.waiting for model in self.models.values())


class FairQueueMachine(RuleBasedStateMachine):
    """Whatever arrives, each message is taken within the turns that its arrival allows."""

    @initialize()
    def start(self) -> None:
        self.queue = FairQueue()
        self.turn = 0
        self.latest_turn: dict[int, int] = {}
        self.waiting: list[Delivery] = []

    @rule(tenant=tenants, priority=priorities, count=st.integers(1, 30))
    def add(self, tenant: str, priority: Priority, count: int) -> None:
        for _ in range(count):
            new = delivery(tenant, priority)
            self.queue.add(new)
            self.waiting.append(new)
            self.latest_turn[id(new)] = self.turn + self._max_turns(new)

    @rule(limit=st.integers(1, 40))
    def take(self, limit: int) -> None:
        taken = self.queue.take(limit)
        assert len(taken) == min(limit, len(self.waiting))
        for item in taken:
            self.turn += 1
            assert self.turn <= self.latest_turn[id(item)]
            assert item is next(d for d in self.waiting if _queue_of(d) == _queue_of(item))
            self.waiting.remove(item)

    @invariant()
    def no_message_waits_too_long(self) -> None:
        assert len(self.queue) == len(self.waiting)
        for item in self.waiting:
            assert self.turn < self.latest_turn[id(item)]

    def _max_turns(self, new: Delivery) -> int:
        """The turns that a message may wait.

        Before its own turn come the messages before it in its queue, with a turn of every tenant
        for each. A round gives their priority its share of turns; the current round may have none
        left.
        """
        before = sum(_queue_of(item) == _queue_of(new) for item in self.waiting)
        turns = before * len(TENANTS)
        rounds = -(-turns // TURNS[new.message.priority]) + 1
        return rounds * sum(TURNS.values())


def _queue_of(item: Delivery) -> tuple[str, Priority]:
    return item.message.tenant, item.message.priority


TestRecipientQueuesMachine = RecipientQueuesMachine.TestCase
TestRecipientQueuesMachine.settings = effort(100, steps=40)
TestFairQueueMachine = FairQueueMachine.TestCase
TestFairQueueMachine.settings = effort(60, steps=30)
