"""The middle of a channel process: it claims, calls and settles many messages at once.

Deliveries come from the poll threads and from the deferred feed. They wait in the backlog, one
recipient's messages in order. The claim loop claims a batch in the ledger and starts a task for
each call. The settle loop writes the outcomes, a batch at a time, and publishes the events. When
the broker has the event of a message, its source is reported as done. `consumers.pipeline.assembly`
puts the parts together.

    submit ─► Backlog ─► ClaimLoop ─► DecisionHandler ─► Caller ─► SettleLoop ─► Completion ─► done
"""

import asyncio
from collections.abc import Callable, Sequence

from consumers.ledger.delivery import Delivery
from consumers.pipeline.backlog import Backlog
from consumers.pipeline.claim_loop import ClaimLoop
from consumers.pipeline.running import RunningTasks
from consumers.pipeline.settle_loop import SettleLoop


class Dispatcher:
    """Delivers the messages of one channel, on one event loop.

    Args:
        running: the calls that run now.
        on_failure: called with an error that ended one of the loops. The process should end.
    """

    def __init__(
        self,
        backlog: Backlog,
        claim_loop: ClaimLoop,
        settle_loop: SettleLoop,
        *,
        running: RunningTasks,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._backlog = backlog
        self._claim_loop = claim_loop
        self._settle_loop = settle_loop
        self._running = running
        self._on_failure = on_failure
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start both loops."""
        self._loops = [
            asyncio.create_task(self._claim_loop.run()),
            asyncio.create_task(self._settle_loop.run()),
        ]
        for task in self._loops:
            task.add_done_callback(self._report_failure)

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries on."""
        self._backlog.submit(deliveries)

    def discard(self) -> None:
        """Give up the messages that have not begun and no longer belong to this process."""
        self._backlog.discard()

    @property
    def in_flight(self) -> int:
        """The number of calls that run now."""
        return len(self._running)

    async def stop(self, *, within: float) -> None:
        """Claim nothing more, and finish the calls that have begun.

        Args:
            within: seconds that each step of it may take.
        """
        claiming, settling = self._loops
        self._running.is_stopping = True
        self._backlog.notify()
        await asyncio.wait([claiming], timeout=within)
        await self._running.wait_for_all(within=within)
        self._settle_loop.wake()
        await asyncio.wait([settling], timeout=within)
        settling.cancel()

    def _report_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)
