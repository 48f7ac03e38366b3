"""Group commit: messages that are posted at the same time share one statement and one transaction.

`producer.api` passes each prepared entry to the `Batcher` and waits for its result. While one batch
is written, the next one collects entries. An entry never waits for others to arrive.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseRefusedError, DatabaseUnavailableError, translate_errors
from producer.outbox import Outbox
from producer.statements import Entry, KeyVanishedError, Result

BATCH_LIMIT = 200  # entries in one transaction
WRITERS = 2  # transactions at the same time


@dataclass(frozen=True, slots=True)
class _PendingWrite:
    """An entry, and the future result that its request waits for."""

    entry: Entry
    result: "asyncio.Future[Result]"


class Batcher:
    """Writes the entries of concurrent requests. Belongs to one event loop."""

    def __init__(self, pool: AsyncConnectionPool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox
        self._pending: list[_PendingWrite] = []
        self._writers: set[asyncio.Task[None]] = set()

    async def write(self, entry: Entry) -> Result:
        """Write one entry, in one batch with the entries of other requests.

        Raises:
            DatabaseUnavailableError, DatabaseRefusedError: nothing of the batch was written.
        """
        pending = _PendingWrite(entry, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        if len(self._writers) < WRITERS:
            task = asyncio.create_task(self._write_pending())
            self._writers.add(task)
            task.add_done_callback(self._writers.discard)
        return await pending.result

    async def write_many(self, entries: Sequence[Entry]) -> tuple[Result, ...]:
        """Write all entries of one request in one transaction; raise the errors of `write`."""
        if not entries:
            return ()
        try:
            with translate_errors():
                async with self._pool.connection() as connection, connection.transaction():
                    return await self._outbox.write_async(connection, entries)
        except KeyVanishedError as error:
            raise DatabaseUnavailableError(str(error)) from error

    async def _write_pending(self) -> None:
        while self._pending:
            batch = self._pending[:BATCH_LIMIT]
            self._pending = self._pending[BATCH_LIMIT:]
            await self._write_batch(batch)

    async def _write_batch(self, batch: Sequence[_PendingWrite]) -> None:
        try:
            results = await self.write_many([pending.entry for pending in batch])
        except DatabaseRefusedError as error:
            if len(batch) > 1:  # one entry causes the error; the others must still be written
                for pending in batch:
                    await self._write_batch([pending])
            else:
                _complete(batch[0], error)
        except Exception as error:  # every error is raised in the requests that wait for the batch
            for pending in batch:
                _complete(pending, error)
        except BaseException:
            for pending in batch:
                pending.result.cancel()
            raise
        else:
            for pending, result in zip(batch, results, strict=True):
                _complete(pending, result)


def _complete(pending: _PendingWrite, result: Result | Exception) -> None:
    if pending.result.done():  # the client has disconnected; its message is accepted anyway
        return
    if isinstance(result, Exception):
        pending.result.set_exception(result)
    else:
        pending.result.set_result(result)
