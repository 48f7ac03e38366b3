"""The deferred queue: messages that stepped aside, taken up again when due.

A task on the channel's event loop leases what is due, so many at once, hands it to the dispatcher,
and drops the rows whose outcome is announced. It has a share of its own of what may be open,
because a topic that is never empty would leave it nothing.
"""

import asyncio
from collections import deque

import structlog

from comms.platform.database import DatabaseUnavailableError
from consumers.ledger.delivery import Delivery, Lease
from consumers.ledger.store import Ledger
from consumers.pipeline.decoding import Decoder, RejectedRecord
from consumers.pipeline.dispatcher import Dispatcher

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
MOST = 200


class DeferredFeed:
    """Feeds a dispatcher from the deferred queue."""

    def __init__(self, ledger: Ledger, intake: Decoder, dispatcher: Dispatcher) -> None:
        self._ledger, self._intake, self._dispatcher = ledger, intake, dispatcher
        self._done: deque[Lease] = deque()
        self._open = 0

    def done(self, lease: Lease) -> None:
        """The message is settled and announced; from any thread."""
        self._done.append(lease)

    async def run(self) -> None:
        """Feed until cancelled."""
        while True:
            try:
                await self.finish()
                await self._feed()
            except DatabaseUnavailableError as error:
                log.warning("ledger.unavailable", problem=str(error))
            await asyncio.sleep(POLL_SECONDS)

    async def finish(self) -> None:
        """Drop the rows that are done."""
        count = len(self._done)
        if count:
            await self._ledger.finish([self._done[n] for n in range(count)])
            for _ in range(count):
                self._done.popleft()
            self._open -= count

    def _room(self) -> int:
        """Nothing is taken up while no provider can be called, but for one message when it is time
        to see whether one works again: the topic may be empty."""
        room = MOST - self._open
        if self._dispatcher.can_call:
            return room
        return min(room, 1) if self._dispatcher.may_probe else 0

    async def _feed(self) -> None:
        room = self._room()
        if room <= 0:
            return
        for lease, value in await self._ledger.lease_due(room):
            match self._intake.read(value, lease):
                case Delivery() as delivery:
                    self._open += 1
                    self._dispatcher.submit([delivery])
                case RejectedRecord(
                    detail=detail
                ):  # it was good when it was deferred: the rules changed
                    log.error("deferred.unreadable", id=str(lease.message_id), problem=detail)
