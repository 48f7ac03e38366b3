"""Completes deliveries: publishes the last event of each, and reports its source as done.

The settle loop, the deferrer and the decision handler use it when nothing more is to be done about
a delivery in this process.
"""

from functools import partial

from consumers.ledger.delivery import Delivery
from consumers.pipeline.acks import AckRouter
from consumers.pipeline.backlog import Backlog
from consumers.status.publisher import StatusPublisher
from schemas.events import StatusEvent


class Completion:
    """Belongs to one event loop."""

    def __init__(self, backlog: Backlog, publisher: StatusPublisher, acks: AckRouter) -> None:
        self._backlog = backlog
        self._publisher = publisher
        self._acks = acks

    def complete(self, delivery: Delivery, event: StatusEvent | None) -> None:
        """Let the recipient's next message begin, and report the source as done.

        Args:
            event: to publish first. The source is done once the broker has acknowledged it.
        """
        self._backlog.release(delivery)
        if event is None:
            self._acks.mark_done(delivery.source)
        else:
            self._publisher.publish(event, partial(self._acks.mark_done, delivery.source))
