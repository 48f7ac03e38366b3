"""Whose turn it is: among priorities by weight, within a priority tenant by tenant.

`consumers.pipeline.lanes` keeps the messages that may begin here. However many of them one tenant
has, the next of another tenant waits for one turn, not for all of them; and a lower priority keeps
a share however much there is of a higher one.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from consumers.ledger.delivery import Delivery
from schemas.vocabulary import Priority

# Turns in a round: of 13 messages that could all begin, so many are of each priority.
TURNS: Mapping[Priority, int] = {Priority.HIGH: 8, Priority.NORMAL: 4, Priority.BULK: 1}


class _Tenants:
    """The messages of one priority: each tenant's in order, tenants one message at a time."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Delivery]] = OrderedDict()

    def add(self, delivery: Delivery, *, first: bool) -> None:
        tenant = delivery.message.tenant
        line = self._lines.setdefault(tenant, deque())
        if first:
            line.appendleft(delivery)
            self._lines.move_to_end(tenant, last=False)
        else:
            line.append(delivery)

    def take(self) -> Delivery:
        tenant, line = next(iter(self._lines.items()))
        delivery = line.popleft()
        if line:
            self._lines.move_to_end(tenant)
        else:
            del self._lines[tenant]
        return delivery

    def drop(self, delivery: Delivery) -> None:
        """Take one out of its turn."""
        self.remove(lambda other: other is delivery)

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        found = [d for line in self._lines.values() for d in line if unwanted(d)]
        kept = [(t, deque(d for d in line if not unwanted(d))) for t, line in self._lines.items()]
        self._lines = OrderedDict((tenant, line) for tenant, line in kept if line)
        return found

    def __bool__(self) -> bool:
        return bool(self._lines)


class FairQueue:
    """Messages that may begin, taken in turns."""

    def __init__(self) -> None:
        self._tenants = {priority: _Tenants() for priority in TURNS}
        self._turns = dict(TURNS)
        self._count = 0

    def add(
        self, delivery: Delivery, *, priority: Priority | None = None, first: bool = False
    ) -> None:
        """Stand in line: by its own priority, unless another is given; `first` for one that was
        taken and could not begin."""
        self._tenants[priority or delivery.message.priority].add(delivery, first=first)
        self._count += 1

    def promote(self, delivery: Delivery, before: Priority, to: Priority) -> None:
        """Let one that stands in line by the priority `before` stand by `to` instead."""
        self._tenants[before].drop(delivery)
        self._tenants[to].add(delivery, first=False)

    def take(self, most: int) -> list[Delivery]:
        """At most `most` of them, in the order of their turns."""
        taken = []
        for _ in range(min(most, self._count)):
            taken.append(self._tenants[self._next_priority()].take())
            self._count -= 1
        return taken

    def drop(self, delivery: Delivery) -> None:
        """Take one out of its turn."""
        self.remove(lambda other: other is delivery)

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out what is unwanted; returns it."""
        found = [d for tenants in self._tenants.values() for d in tenants.remove(unwanted)]
        self._count -= len(found)
        return found

    def _next_priority(self) -> Priority:
        """The highest that waits and has a turn left; a new round when none has."""
        waiting = [priority for priority, tenants in self._tenants.items() if tenants]
        if not any(self._turns[priority] for priority in waiting):
            self._turns = dict(TURNS)
        chosen = next(priority for priority in waiting if self._turns[priority])
        self._turns[chosen] -= 1
        return chosen

    def __len__(self) -> int:
        return self._count
