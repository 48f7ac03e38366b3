"""Reads the deferred queue: messages that are to be tried again, once they are due.

A task on the channel's event loop leases rows that are due, hands the messages to the dispatcher,
and deletes the rows of those that are done. It has a limit of its own for open messages, because a
topic that is never empty would leave the queue no room.
"""

import structlog

from comms.platform.clock import Clock, utc_now
from comms.platform.database_retry import run_periodically
from consumers.ledger.delivery import Delivery
from consumers.ledger.store import Ledger
from consumers.pipeline.decoding import Decoder, RejectedRecord
from consumers.pipeline.dispatcher import Dispatcher
from consumers.pipeline.progress import LeaseProgress
from consumers.routing import Router

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
MAX_OPEN = 200


class DeferredFeed:
    """Feeds a dispatcher from the deferred queue.

    Args:
        progress: the leases that are reported as done.
    """

    def __init__(
        self,
        ledger: Ledger,
        decoder: Decoder,
        dispatcher: Dispatcher,
        *,
        router: Router,
        progress: LeaseProgress,
        clock: Clock = utc_now,
    ) -> None:
        self._ledger = ledger
        self._decoder = decoder
        self._dispatcher = dispatcher
        self._router = router
        self._clock = clock
        self._progress = progress
        self._open = 0

    async def run(self) -> None:
        """Feed the dispatcher until cancelled."""
        await run_periodically(self._step, seconds=POLL_SECONDS)

    async def delete_finished(self) -> None:
        """Delete the rows whose messages are done.

        Raises:
            DatabaseUnavailableError: none is deleted, as far as is known; all stay reported.
        """
        leases = self._progress.pending()
        if leases:
            await self._ledger.finish(leases)
            self._progress.remove_oldest(len(leases))
            self._open -= len(leases)

    async def _step(self) -> None:
        await self.delete_finished()
        await self._feed()

    def _room(self) -> int:
        """Return how many messages may be leased.

        None while no provider can be called, but one when it is time to see whether a provider
        works again: the topic may be empty.
        """
        room = MAX_OPEN - self._open
        if self._router.has_available_provider:
            return room
        return min(room, 1) if self._router.can_probe(self._clock().timestamp()) else 0

    async def _feed(self) -> None:
        room = self._room()
        if room <= 0:
            return
        for lease, value in await self._ledger.lease_due(room):
            match self._decoder.read(value, lease):
                case Delivery() as delivery:
                    self._open += 1
                    self._dispatcher.submit([delivery])
                case RejectedRecord(detail=detail):
                    # It was valid when it was deferred: the rules have changed.
                    log.error("deferred.unreadable", id=str(lease.message_id), problem=detail)
