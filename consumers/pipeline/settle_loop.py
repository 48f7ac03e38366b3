"""Writes outcomes to the ledger, a batch at a time, and publishes their events.

The decision handler and the caller add settled attempts. The loop writes what was added since the
last statement, and completes each delivery.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from comms.platform import metrics
from comms.platform.database_retry import retry_until_available
from consumers.ledger.store import Ledger
from consumers.pipeline.completion import Completion
from consumers.pipeline.retry import due_time
from consumers.pipeline.running import RunningTasks
from consumers.pipeline.settlement import SettledAttempt
from consumers.status.publisher import StatusPublisher
from schemas.vocabulary import Channel, Status


class SettleLoop:
    """Runs on one event loop."""

    def __init__(
        self,
        channel: Channel,
        ledger: Ledger,
        publisher: StatusPublisher,
        completion: Completion,
        running: RunningTasks,
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._completion = completion
        self._running = running
        self._attempts: list[SettledAttempt] = []
        self._wake = asyncio.Event()
        self._send_seconds = metrics.message_send_seconds.labels(channel)

    def add(self, attempt: SettledAttempt) -> None:
        """Settle an attempt with the next batch."""
        self._attempts.append(attempt)
        self._wake.set()

    def wake(self) -> None:
        """Look whether the loop may end."""
        self._wake.set()

    async def run(self) -> None:
        """Settle until the process stops, no task runs and everything is settled."""
        while self._attempts or self._running or not self._running.is_stopping:
            await self._wake.wait()
            await self._running.collect()
            self._wake.clear()
            batch, self._attempts = self._attempts, []
            if batch:
                await self._settle(batch)

    async def _settle(self, batch: Sequence[SettledAttempt]) -> None:
        settlements = [attempt.settlement for attempt in batch]
        await retry_until_available(partial(self._ledger.settle, settlements))
        for attempt in batch:
            self._observe_send_time(attempt)
            if attempt.preceding_event is not None:
                self._publisher.publish(attempt.preceding_event)
            self._completion.complete(attempt.settlement.delivery, attempt.event)

    def _observe_send_time(self, attempt: SettledAttempt) -> None:
        settlement = attempt.settlement
        if settlement.status is Status.SENT and not settlement.is_resend:
            due = due_time(settlement.delivery.message)
            self._send_seconds.observe((settlement.occurred_at - due).total_seconds())
