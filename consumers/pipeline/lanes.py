"""One at a time per recipient: messages of one key wait in line, different keys do not.

The dispatcher adds deliveries, takes the heads of lines when it has room for calls, and releases a
line when its head is settled. Which head is next, `consumers.pipeline.fair_queue` decides; a head
goes by the most urgent priority of its line, since an urgent message cannot go before what it waits
behind.
"""

from collections import deque
from collections.abc import Callable, Iterable

from consumers.ledger.delivery import Delivery
from consumers.pipeline.fair_queue import TURNS, FairQueue
from schemas.vocabulary import Priority

_RANK = {priority: rank for rank, priority in enumerate(TURNS)}  # the most urgent first


class Lanes:
    """Lines of deliveries by key, and the heads that may begin."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Delivery]] = {}  # a key that is here is being worked on
        self._heads: dict[str, tuple[Delivery, Priority]] = {}  # may begin, by which priority
        self._ready = FairQueue()

    def add(self, delivery: Delivery) -> None:
        """Stand at the end of the line of the delivery's key."""
        key = delivery.message.key
        line = self._waiting.get(key)
        if line is None:
            self._waiting[key] = deque()
            self._offer(key, delivery)
        else:
            line.append(delivery)
            self._hurry(key, delivery.message.priority)

    def take(self, most: int) -> list[Delivery]:
        """At most `most` heads of lines; each key stays taken until `release`."""
        taken = self._ready.take(most)
        for head in taken:
            del self._heads[head.message.key]
        return taken

    def put_back(self, deliveries: list[Delivery], *, first: bool = True) -> None:
        """Heads that were taken and could not begin.

        Args:
            first: they stay first; else others, that may be able to, have their turn before them.
        """
        for delivery in reversed(deliveries) if first else deliveries:
            self._offer(delivery.message.key, delivery, first=first)

    def release(self, delivery: Delivery) -> None:
        """The head is settled: the next of its line may begin."""
        key = delivery.message.key
        line = self._waiting[key]
        if line:
            self._offer(key, line.popleft())
        else:
            del self._waiting[key]

    def discard(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove what has not begun and is unwanted; returns it."""
        removed = [d for line in self._waiting.values() for d in line if unwanted(d)]
        for key, line in self._waiting.items():
            self._waiting[key] = deque(d for d in line if not unwanted(d))
        heads = self._ready.remove(unwanted)
        for head in heads:
            del self._heads[head.message.key]
            self.release(head)
        return removed + heads

    def _offer(self, key: str, head: Delivery, *, first: bool = False) -> None:
        priority = head.message.priority
        if self._waiting[key]:
            priority = _most_urgent(d.message.priority for d in (head, *self._waiting[key]))
        self._heads[key] = head, priority
        self._ready.add(head, priority=priority, first=first)

    def _hurry(self, key: str, priority: Priority) -> None:
        """Something of this priority waits behind the key's head."""
        if (found := self._heads.get(key)) and _RANK[priority] < _RANK[found[1]]:
            self._ready.promote(*found, priority)
            self._heads[key] = found[0], priority

    def __len__(self) -> int:
        """How many may begin now."""
        return len(self._ready)


def _most_urgent(priorities: Iterable[Priority]) -> Priority:
    return min(priorities, key=_RANK.__getitem__)
