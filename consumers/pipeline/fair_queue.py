"""Decides whose message is next: weighted round robin over priorities, round robin over tenants.

`consumers.pipeline.recipient_queues` keeps the messages that may begin in a `FairQueue`. However
many messages one tenant has, the next message of another tenant waits for one turn, not for all of
them. A lower priority keeps a share however many messages a higher one has.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from consumers.ledger.delivery import Delivery
from schemas.vocabulary import Priority

# Turns in a round: of 13 messages that could all begin, so many are of each priority.
TURNS: Mapping[Priority, int] = {Priority.HIGH: 8, Priority.NORMAL: 4, Priority.BULK: 1}


class _TenantQueues:
    """The messages of one priority: a queue per tenant, served one message at a time in turn."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Delivery]] = OrderedDict()

    def add(self, delivery: Delivery, *, first: bool) -> None:
        """Append a message to its tenant's queue.

        Args:
            first: put it at the head instead, and give its tenant the next turn.
        """
        tenant = delivery.message.tenant
        queue = self._queues.setdefault(tenant, deque())
        if first:
            queue.appendleft(delivery)
            self._queues.move_to_end(tenant, last=False)
        else:
            queue.append(delivery)

    def take(self) -> Delivery:
        """Take the next message; its tenant's next turn comes after those of all others."""
        tenant, queue = next(iter(self._queues.items()))
        delivery = queue.popleft()
        if queue:
            self._queues.move_to_end(tenant)
        else:
            del self._queues[tenant]
        return delivery

    def remove(self, is_unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove messages and return them."""
        removed: list[Delivery] = []
        remaining: OrderedDict[str, deque[Delivery]] = OrderedDict()
        for tenant, queue in self._queues.items():
            removed += [delivery for delivery in queue if is_unwanted(delivery)]
            if rest := deque(delivery for delivery in queue if not is_unwanted(delivery)):
                remaining[tenant] = rest
        self._queues = remaining
        return removed

    def __bool__(self) -> bool:
        return bool(self._queues)


class FairQueue:
    """Messages that may begin, taken in turns."""

    def __init__(self) -> None:
        self._tenants = {priority: _TenantQueues() for priority in TURNS}
        self._turns_left = dict(TURNS)
        self._count = 0

    def add(
        self, delivery: Delivery, *, priority: Priority | None = None, first: bool = False
    ) -> None:
        """Add a message.

        Args:
            priority: the priority to queue it by; the message's own if None.
            first: put it at the head. For a message that was taken and could not begin.
        """
        self._tenants[priority or delivery.message.priority].add(delivery, first=first)
        self._count += 1

    def promote(self, delivery: Delivery, before: Priority, to: Priority) -> None:
        """Move a message from the queue of one priority to that of another."""
        self._tenants[before].remove(lambda other: other is delivery)
        self._tenants[to].add(delivery, first=False)

    def take(self, limit: int) -> list[Delivery]:
        """Take at most `limit` messages, in the order of their turns."""
        deliveries = []
        for _ in range(min(limit, self._count)):
            deliveries.append(self._tenants[self._next_priority()].take())
            self._count -= 1
        return deliveries

    def remove(self, is_unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove messages and return them."""
        removed = [d for tenants in self._tenants.values() for d in tenants.remove(is_unwanted)]
        self._count -= len(removed)
        return removed

    def _next_priority(self) -> Priority:
        """Take the turn of the highest priority that has messages and a turn left.

        A new round begins when none of those with messages has a turn left.
        """
        waiting = [priority for priority, tenants in self._tenants.items() if tenants]
        if not any(self._turns_left[priority] for priority in waiting):
            self._turns_left = dict(TURNS)
        chosen = next(priority for priority in waiting if self._turns_left[priority])
        self._turns_left[chosen] -= 1
        return chosen

    def __len__(self) -> int:
        return self._count
