"""Group commit: single posts that arrive together share one statement and one transaction.

The API hands each prepared entry to the `Batcher` and waits for its result. While one batch is
being written the next gathers, so that nothing waits for company that does not come.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseRefusedError, DatabaseUnavailableError, translated
from producer.outbox import Outbox
from producer.statements import Entry, KeyVanishedError, Result

MOST = 200  # entries in one transaction
WRITERS = 2  # transactions at once


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: Entry
    result: "asyncio.Future[Result]"


class Batcher:
    """Writes entries for concurrent requests of one event loop."""

    def __init__(self, pool: AsyncConnectionPool, outbox: Outbox) -> None:
        self._pool, self._outbox = pool, outbox
        self._waiting: list[_Waiting] = []
        self._writers: set[asyncio.Task[None]] = set()

    async def write(self, entry: Entry) -> Result:
        """Write one entry, together with whatever else arrives.

        Raises:
            DatabaseUnavailableError, DatabaseRefusedError: nothing of the batch was written.
        """
        waiting = _Waiting(entry, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._writers) < WRITERS:
            task = asyncio.create_task(self._write_all())
            self._writers.add(task)
            task.add_done_callback(self._writers.discard)
        return await waiting.result

    async def write_many(self, entries: Sequence[Entry]) -> tuple[Result, ...]:
        """Write a request's own batch in a transaction of its own; raises as `write`."""
        if not entries:
            return ()
        try:
            with translated():
                async with self._pool.connection() as connection, connection.transaction():
                    return await self._outbox.write_async(connection, entries)
        except KeyVanishedError as error:
            raise DatabaseUnavailableError(str(error)) from error

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            await self._write_batch(batch)

    async def _write_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            results = await self.write_many([waiting.entry for waiting in batch])
        except DatabaseRefusedError as error:
            if len(batch) > 1:  # one of them is to blame; the others shall not pay for it
                for waiting in batch:
                    await self._write_batch([waiting])
            else:
                _settle(batch[0], error)
        except Exception as error:  # whatever it is, it belongs to those who wait
            for waiting in batch:
                _settle(waiting, error)
        except BaseException:
            for waiting in batch:
                waiting.result.cancel()
            raise
        else:
            for waiting, result in zip(batch, results, strict=True):
                _settle(waiting, result)


def _settle(waiting: _Waiting, result: Result | Exception) -> None:
    if waiting.result.done():  # the request went away; what it asked for is accepted all the same
        return
    if isinstance(result, Exception):
        waiting.result.set_exception(result)
    else:
        waiting.result.set_result(result)
