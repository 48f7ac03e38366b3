"""The messages of a channel process that have not begun, and the signal that one may begin.

The pollers and the deferred feed submit deliveries through the dispatcher. The claim loop takes
them, and `consumers.pipeline.completion` reports each one that is finished.
"""

import asyncio
from collections.abc import Sequence

from consumers.ledger.delivery import Delivery
from consumers.pipeline.acks import AckRouter
from consumers.pipeline.recipient_queues import RecipientQueues


class Backlog:
    """Belongs to one event loop."""

    def __init__(self, acks: AckRouter) -> None:
        self._acks = acks
        self._queues = RecipientQueues()
        self._changed = asyncio.Event()

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries."""
        for delivery in deliveries:
            self._queues.add(delivery)
        self._changed.set()

    async def wait(self) -> None:
        """Wait until a message may begin, or a call has ended and left room for another."""
        await self._changed.wait()

    def notify(self) -> None:
        """End the wait."""
        self._changed.set()

    def take(self, limit: int) -> list[Delivery]:
        """Take at most `limit` messages that may begin, and that still belong to this process."""
        heads = self._queues.take(limit)
        if not heads:
            self._changed.clear()
        return [head for head in heads if self._is_current(head)]

    def put_back(self, deliveries: list[Delivery], *, first: bool = True) -> None:
        """Put back messages that could not begin.

        Args:
            first: they are next again; else other messages come first.
        """
        self._queues.put_back(deliveries, first=first)

    def release(self, delivery: Delivery) -> None:
        """Let the recipient's next message begin."""
        self._queues.release(delivery)
        self._changed.set()

    def discard(self) -> None:
        """Give up the messages that no longer belong to this process."""
        for delivery in self._queues.discard(lambda d: not self._acks.is_current(d.source)):
            self._acks.mark_abandoned(delivery.source)

    def _is_current(self, delivery: Delivery) -> bool:
        """Whether a message still belongs to this process; gives it up if it does not."""
        if self._acks.is_current(delivery.source):
            return True
        self._queues.release(delivery)
        self._acks.mark_abandoned(delivery.source)
        return False
