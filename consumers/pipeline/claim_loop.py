"""Takes messages from the backlog and claims them in the ledger, a batch at a time.

The loop takes as many messages as there is room for calls. It selects a provider for each, claims
the batch in one statement, and passes every decision to the decision handler.
"""

import asyncio
from collections.abc import Callable, Sequence

from comms.platform import database_retry
from comms.platform.database import DatabaseUnavailableError
from consumers.ledger.delivery import Delivery
from consumers.pipeline.backlog import Backlog
from consumers.pipeline.claiming import Candidate, Claimer
from consumers.pipeline.decision_handler import DecisionHandler
from consumers.pipeline.deferral import Deferrer
from consumers.pipeline.running import RunningTasks
from consumers.pipeline.selection import Selector

CLAIM_BATCH = 200
NO_PROVIDER_SECONDS = 0.05  # between looks for a provider that can be called


class ClaimLoop:
    """Runs on one event loop.

    Args:
        concurrency: how many calls may run at a time.
        monotonic: seconds, by which the age of claims is measured.
    """

    def __init__(
        self,
        backlog: Backlog,
        selector: Selector,
        claimer: Claimer,
        *,
        handler: DecisionHandler,
        deferrer: Deferrer,
        running: RunningTasks,
        concurrency: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._backlog = backlog
        self._selector = selector
        self._claimer = claimer
        self._handler = handler
        self._deferrer = deferrer
        self._running = running
        self._concurrency = concurrency
        self._monotonic = monotonic

    async def run(self) -> None:
        """Claim until the process stops."""
        while not self._running.is_stopping:
            await self._backlog.wait()
            await self._running.collect()
            room = self._concurrency - len(self._running)
            heads = self._backlog.take(min(room, CLAIM_BATCH))
            if heads:
                await self._process(heads)

    async def _process(self, heads: list[Delivery]) -> None:
        selection = self._selector.select(heads)
        try:
            await self._claim(selection.candidates)
        except DatabaseUnavailableError as error:
            self._backlog.put_back(heads)
            await database_retry.pause(error)
            return
        if selection.deferrals:
            self._deferrer.start(selection.deferrals)
        if selection.waiting:
            self._backlog.put_back(selection.waiting, first=selection.keeps_order)
            await asyncio.sleep(NO_PROVIDER_SECONDS)

    async def _claim(self, candidates: Sequence[Candidate]) -> None:
        if not candidates:
            return
        claimed_at = self._monotonic()  # before the statement: a claim is younger than that
        decisions = await self._claimer.claim(candidates)
        for (delivery, choice), decision in zip(candidates, decisions, strict=True):
            self._handler.handle(delivery, choice, decision, claimed_at=claimed_at)
