"""The tasks of a channel process that are running: calls of providers, and messages being deferred.

The parts of the dispatcher start tasks here, and the claim loop reads from their number how many
more calls it may begin.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from comms.platform import metrics
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

BUSY = 32  # running tasks from which it pays to collect messages before a statement
COLLECT_SECONDS = 0.01


class RunningTasks:
    """The tasks on one event loop.

    Args:
        on_end: called when a task has ended.

    Attributes:
        is_stopping: whether the process is shutting down and begins nothing new.
    """

    def __init__(self, channel: Channel, on_end: Callable[[], object]) -> None:
        self.is_stopping = False
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.in_flight.labels(channel).set_function(lambda: len(self._tasks))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task of its own. An error that it raises is logged as a defect."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    async def collect(self) -> None:
        """Wait a moment for more messages while the process is busy.

        A statement costs the same for one message as for fifty. A message that comes alone does not
        wait.
        """
        if len(self._tasks) >= BUSY and not self.is_stopping:
            await asyncio.sleep(COLLECT_SECONDS)

    async def wait_for_all(self, *, within: float) -> None:
        """Wait until all tasks that run now have ended, at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._on_end()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("dispatch.defect", exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)
