"""Asks providers what became of the messages they took, where they do not say it by themselves.

A task on the channel's event loop, one for each such provider (`consumers.sdk.receipt_polling`),
looks for messages that have come of an age to be asked about, asks, and gives the answers to the
receipt desk. What is open stands in the ledger: a message that the provider took, whose receipt is
not there. So nothing is forgotten by a process that ends, and what is answered is not asked again.

Of a channel's processes one asks at a time. What had no answer is asked by each of them, at ages
that double, until the provider has forgotten: seven times in a day, a thousand in a request.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseError, DatabaseUnavailableError, translated
from consumers.sdk.receipt_polling import (
    PollableProvider,
    PollSchedule,
    ReceiptPollError,
    ReceiptQuery,
)
from consumers.sdk.receipt_stream import ReceiptNotStoredError, StoreReceipts
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

EVERY_SECONDS = 60.0
LONGEST_WAIT = 900.0  # seconds between looks, of a provider that does not answer
PIECE = timedelta(minutes=10)
PAGE = 1000
_LOCKS = 7_214  # advisory locks of this module, one a provider

# The newest attempt of a message, which the provider took and has not spoken of since. What a
# provider says is kept before it is announced.
_FIND = """
SELECT o.occurred_at, o.message_id, o.provider_message_id, o.response
FROM consumers.outcome o JOIN consumers.attempt a USING (message_id, attempt)
WHERE o.status = 'sent' AND a.channel = %s AND a.provider = %s
  AND o.provider_message_id IS NOT NULL
  AND o.occurred_at > %s AND o.occurred_at <= %s
  AND (o.occurred_at, o.message_id) > (%s, %s)
  AND NOT EXISTS (SELECT FROM consumers.attempt later
                  WHERE later.message_id = o.message_id AND later.attempt > o.attempt)
  AND NOT EXISTS (SELECT FROM consumers.receipt r
                  WHERE r.message_id = o.message_id AND r.taken_at > o.occurred_at)
ORDER BY o.occurred_at, o.message_id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Messages that were taken after `begin`, and not after `end`."""

    begin: datetime
    end: datetime

    def pieces(self) -> Iterator["Span"]:
        """The same in short ones, each of which the ledger reads and sorts at once."""
        begin = self.begin
        while begin < self.end:
            end = min(begin + PIECE, self.end)
            yield Span(begin, end)
            begin = end


def spans(since: datetime, now: datetime, keeping: PollSchedule) -> list[Span]:
    """What has come of an age to be asked about between two looks, the oldest first."""
    found = list[Span]()
    for age in reversed(keeping.moments):
        begin, end = max(since - age, now - keeping.kept_for), now - age
        if begin >= end:
            continue
        if found and begin <= found[-1].end:
            begin = found.pop().begin
        found.append(Span(begin, end))
    return found


def wait_after(error: Exception, wait: float) -> float:
    """Seconds until the next look after one that failed, and that had been waited for so long: as
    long as the provider asks for, else twice as long up to a bound."""
    asked_for = error.after if isinstance(error, ReceiptPollError) else None
    return max(min(wait * 2, LONGEST_WAIT), asked_for or 0.0)


class ReceiptPoller:
    """Asks one provider.

    Args:
        tell: takes what it answers.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        provider: PollableProvider,
        tell: StoreReceipts,
        *,
        channel: Channel,
        name: str,
    ) -> None:
        self._pool, self._provider, self._tell = pool, provider, tell
        self._channel, self._name = channel, name
        self._asked_until: datetime | None = None  # by the database's clock

    async def run(self) -> None:
        """Ask now and then, until cancelled; less often where nobody answers."""
        wait = EVERY_SECONDS
        while True:
            await asyncio.sleep(wait * random.uniform(1.0, 1.5))  # noqa: S311 - no secret
            try:
                await self.look()
            except (DatabaseUnavailableError, ReceiptNotStoredError, ReceiptPollError) as error:
                log.warning("receipts.not_asked", provider=self._name, problem=str(error))
                wait = wait_after(error, wait)
            else:
                wait = EVERY_SECONDS

    async def look(self) -> int:
        """Ask about what has come of age since the last look; how many were spoken of. None where
        another process is at it.

        Raises:
            DatabaseUnavailableError, NotTakenError, UnansweredError: what is not answered for is
                asked about again by the next look.
        """
        async with self._turn() as turn:
            if turn is None:
                return 0
            connection, now = turn
            since = self._asked_until or now - self._provider.poll_schedule.kept_for
            count = 0
            for span in spans(since, now, self._provider.poll_schedule):
                for piece in span.pieces():
                    count += await self._ask_all(connection, piece, now)
            self._asked_until = now
        if count:
            log.info("receipts.answered", provider=self._name, count=count)
        return count

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[tuple[AsyncConnection, datetime] | None]:
        """A connection that holds the lock, and its time; None where another process has it."""
        which = (_LOCKS, f"{self._channel}/{self._name}")
        async with self._pool.connection() as connection:
            with translated():
                cursor = await connection.execute(
                    "SELECT pg_try_advisory_lock(%s, hashtext(%s)), clock_timestamp()", which
                )
                held, now = await cursor.fetchone() or (False, None)
            if not held or not isinstance(now, datetime):
                yield None
                return
            try:
                yield connection, now
            finally:
                with suppress(DatabaseError), translated():  # it ends with a lost connection too
                    await connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", which)

    async def _ask_all(self, connection: AsyncConnection, span: Span, now: datetime) -> int:
        count, after = 0, (span.begin, UUID(int=0))
        while page := await self._page(connection, span, after):
            questions = [
                ReceiptQuery(message_id=i, provider_message_id=theirs, response=said, age=now - at)
                for at, i, theirs, said in page
            ]
            if said := await self._provider.fetch_receipts(questions):
                await self._tell(said)
            count += len(said)
            after = page[-1][0], page[-1][1]
        return count

    async def _page(
        self, connection: AsyncConnection, span: Span, after: tuple[datetime, UUID]
    ) -> Sequence[tuple[datetime, UUID, str, str | None]]:
        values = (self._channel, self._name, span.begin, span.end, *after, PAGE)
        with translated():
            return await (await connection.execute(_FIND, values)).fetchall()
