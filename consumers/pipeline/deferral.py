"""Defers messages: writes them to the deferred queue, from which they are read when they are due.

The claim loop defers messages whose providers all rest, the decision handler those whose call may
be running elsewhere, and the caller those whose claim is too old. `consumers.pipeline.deferred`
reads the queue.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from comms.platform.database_retry import retry_until_available
from consumers.ledger.delivery import Delivery
from consumers.ledger.store import Ledger
from consumers.pipeline.completion import Completion
from consumers.pipeline.running import RunningTasks

Deferrals = Sequence[tuple[Delivery, float]]  # messages, each with the seconds to wait


class Deferrer:
    """Belongs to one event loop."""

    def __init__(self, ledger: Ledger, completion: Completion, running: RunningTasks) -> None:
        self._ledger = ledger
        self._completion = completion
        self._running = running

    def start(self, deferrals: Deferrals, *, hold: float = 0.0) -> None:
        """Run `defer` in a task of its own."""
        self._running.start(self.defer(deferrals, hold=hold))

    async def defer(self, deferrals: Deferrals, *, hold: float = 0.0) -> None:
        """Defer messages and complete their deliveries.

        Args:
            hold: seconds for which the recipients' next messages still wait. A call made elsewhere
                has begun by then, or will not begin any more. What comes after that call must not
                arrive before it.
        """
        await retry_until_available(partial(self._ledger.defer, deferrals))
        await asyncio.sleep(max(0.0, hold))
        for delivery, _ in deferrals:
            self._completion.complete(delivery, None)
