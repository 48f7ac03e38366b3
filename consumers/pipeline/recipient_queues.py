"""Queues messages per recipient, so that one recipient's messages go out one at a time, in order.

The dispatcher adds deliveries. The claim loop takes the heads of queues when it has room for calls,
and a queue is released when its head is settled. `consumers.pipeline.fair_queue` decides which head
is next. A head counts by the most urgent priority in its queue, because an urgent message cannot
overtake the messages before it.
"""

from collections import deque
from collections.abc import Callable, Iterable

from consumers.ledger.delivery import Delivery
from consumers.pipeline.fair_queue import TURNS, FairQueue
from schemas.vocabulary import Priority

_RANK = {priority: rank for rank, priority in enumerate(TURNS)}  # the most urgent first


class RecipientQueues:
    """A queue of deliveries for each message key, and the heads that may begin."""

    def __init__(self) -> None:
        # What waits behind each head. A key stays here until its last message is released.
        self._waiting: dict[str, deque[Delivery]] = {}
        # Heads that may begin, with the priority they are queued by.
        self._heads: dict[str, tuple[Delivery, Priority]] = {}
        self._ready = FairQueue()

    def add(self, delivery: Delivery) -> None:
        """Append a delivery to the queue of its key."""
        key = delivery.message.key
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            self._offer(key, delivery)
        else:
            waiting.append(delivery)
            self._promote_head(key, delivery.message.priority)

    def take(self, limit: int) -> list[Delivery]:
        """Take at most `limit` heads. Nothing else of their keys begins until `release`."""
        heads = self._ready.take(limit)
        for head in heads:
            del self._heads[head.message.key]
        return heads

    def put_back(self, deliveries: list[Delivery], *, first: bool = True) -> None:
        """Put back heads that were taken and could not begin.

        Args:
            first: they are next again; else the heads of other keys come first.
        """
        for delivery in reversed(deliveries) if first else deliveries:
            self._offer(delivery.message.key, delivery, first=first)

    def release(self, delivery: Delivery) -> None:
        """Let the next message of a key begin: its head is settled."""
        key = delivery.message.key
        waiting = self._waiting[key]
        if waiting:
            self._offer(key, waiting.popleft())
        else:
            del self._waiting[key]

    def discard(self, is_unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove deliveries that have not begun, and return them."""
        removed = [d for waiting in self._waiting.values() for d in waiting if is_unwanted(d)]
        for key, waiting in self._waiting.items():
            self._waiting[key] = deque(d for d in waiting if not is_unwanted(d))
        heads = self._ready.remove(is_unwanted)
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

    def _promote_head(self, key: str, priority: Priority) -> None:
        """Queue a key's head by the priority of a message behind it, if that is more urgent."""
        if (entry := self._heads.get(key)) is None:
            return
        head, current = entry
        if _RANK[priority] < _RANK[current]:
            self._ready.promote(head, current, priority)
            self._heads[key] = head, priority

    def __len__(self) -> int:
        """How many heads may begin now."""
        return len(self._ready)


def _most_urgent(priorities: Iterable[Priority]) -> Priority:
    return min(priorities, key=_RANK.__getitem__)
