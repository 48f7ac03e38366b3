"""One at a time per recipient: messages of one key wait in line, different keys do not.

The dispatcher adds deliveries, takes the heads of lines when it has room for calls, and releases a
line when its head is settled. Which head is next, `consumers.fairness` decides.
"""

from collections import deque
from collections.abc import Callable

from consumers.delivery import Delivery
from consumers.fairness import FairQueue


class Lanes:
    """Lines of deliveries by key, and the heads that may begin."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Delivery]] = {}  # a key that is here is being worked on
        self._ready = FairQueue()

    def add(self, delivery: Delivery) -> None:
        """Stand at the end of the line of the delivery's key."""
        key = delivery.message.key
        line = self._waiting.get(key)
        if line is None:
            self._waiting[key] = deque()
            self._ready.add(delivery)
        else:
            line.append(delivery)

    def take(self, most: int) -> list[Delivery]:
        """At most `most` heads of lines; each key stays taken until `release`."""
        return self._ready.take(most)

    def put_back(self, deliveries: list[Delivery]) -> None:
        """Heads that were taken and could not begin; they stay first."""
        for delivery in reversed(deliveries):
            self._ready.add(delivery, first=True)

    def release(self, delivery: Delivery) -> None:
        """The head is settled: the next of its line may begin."""
        key = delivery.message.key
        line = self._waiting[key]
        if line:
            self._ready.add(line.popleft())
        else:
            del self._waiting[key]

    def discard(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove what has not begun and is unwanted; returns it."""
        removed = [d for line in self._waiting.values() for d in line if unwanted(d)]
        for key, line in self._waiting.items():
            self._waiting[key] = deque(d for d in line if not unwanted(d))
        heads = self._ready.remove(unwanted)
        for head in heads:
            self.release(head)
        return removed + heads

    def __len__(self) -> int:
        """How many may begin now."""
        return len(self._ready)
