"""Polls providers for receipts, where a provider does not send them by itself.

A task on the channel's event loop, one for each such provider (`consumers.sdk.receipt_polling`),
finds messages that are due for a query, asks the provider, and passes the answers to the receipt
processor. The ledger shows which messages are open: the provider accepted them, and their receipt
is not there. So a process that ends forgets nothing, and a message that has its receipt is not
polled again.

Of a channel's processes one polls at a time. Each process polls a message without a receipt at ages
that double, until the provider has deleted the receipt: seven times in a day, a thousand messages
in a request.
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

from comms.platform.database import DatabaseError, DatabaseUnavailableError, translate_errors
from consumers.sdk.receipt_polling import (
    PollableProvider,
    PollSchedule,
    ReceiptPollError,
    ReceiptQuery,
)
from consumers.sdk.receipt_stream import ReceiptNotStoredError, StoreReceipts
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

POLL_SECONDS = 60.0
MAX_WAIT_SECONDS = 900.0  # between polls of a provider that does not answer
PIECE = timedelta(minutes=10)
PAGE = 1000
_LOCKS = 7_214  # advisory locks of this module, one a provider
_LOCK = "SELECT pg_try_advisory_lock(%s, hashtext(%s)), clock_timestamp()"
_UNLOCK = "SELECT pg_advisory_unlock(%s, hashtext(%s))"

# The newest attempt of a message, if the provider accepted it and has sent no receipt since. A
# receipt is stored before its event is published.
_FIND_OPEN = """
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
    """Messages that were accepted after `begin`, and not after `end`."""

    begin: datetime
    end: datetime

    def split(self) -> Iterator["Span"]:
        """Split it into short spans, each of which the ledger reads and sorts at once."""
        begin = self.begin
        while begin < self.end:
            end = min(begin + PIECE, self.end)
            yield Span(begin, end)
            begin = end


def find_due_spans(since: datetime, now: datetime, schedule: PollSchedule) -> list[Span]:
    """Return the spans that became due for a query between two polls, the oldest first."""
    spans = list[Span]()
    for age in reversed(schedule.moments):
        begin, end = max(since - age, now - schedule.kept_for), now - age
        if begin >= end:
            continue
        if spans and begin <= spans[-1].end:
            begin = spans.pop().begin
        spans.append(Span(begin, end))
    return spans


def wait_after_error(error: Exception, last_wait: float) -> float:
    """Return the seconds until the next poll after one that failed.

    That is twice the last wait up to a limit, or what the provider asks for if that is longer.
    """
    retry_after = error.after if isinstance(error, ReceiptPollError) else None
    return max(min(last_wait * 2, MAX_WAIT_SECONDS), retry_after or 0.0)


class ReceiptPoller:
    """Polls one provider.

    Args:
        store: stores the receipts that it answers.
        name: the provider's name in the settings.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        provider: PollableProvider,
        store: StoreReceipts,
        *,
        channel: Channel,
        name: str,
    ) -> None:
        self._pool = pool
        self._provider = provider
        self._store = store
        self._channel = channel
        self._name = name
        self._polled_until: datetime | None = None  # by the database's clock

    async def run(self) -> None:
        """Poll now and then until cancelled, less often while the provider does not answer."""
        wait = POLL_SECONDS
        while True:
            await asyncio.sleep(wait * random.uniform(1.0, 1.5))  # noqa: S311 - no secret
            try:
                await self.poll()
            except (DatabaseUnavailableError, ReceiptNotStoredError, ReceiptPollError) as error:
                log.warning("receipts.not_polled", provider=self._name, problem=str(error))
                wait = wait_after_error(error, wait)
            else:
                wait = POLL_SECONDS

    async def poll(self) -> int:
        """Ask about the messages that became due since the last poll.

        Returns:
            The number of receipts; 0 if another process is polling.

        Raises:
            DatabaseUnavailableError, ReceiptNotStoredError, ReceiptPollError: the next poll asks
                again about everything that has no receipt.
        """
        async with self._lock() as lock:
            if lock is None:
                return 0
            connection, now = lock
            since = self._polled_until or now - self._provider.poll_schedule.kept_for
            count = 0
            for span in find_due_spans(since, now, self._provider.poll_schedule):
                for piece in span.split():
                    count += await self._poll_span(connection, piece, now)
            self._polled_until = now
        if count:
            log.info("receipts.polled", provider=self._name, count=count)
        return count

    @asynccontextmanager
    async def _lock(self) -> AsyncIterator[tuple[AsyncConnection, datetime] | None]:
        """Hold the provider's lock; None if another process holds it.

        Yields:
            The connection that holds it, and the database's time.
        """
        key = (_LOCKS, f"{self._channel}/{self._name}")
        async with self._pool.connection() as connection:
            with translate_errors():
                cursor = await connection.execute(_LOCK, key)
                is_held, now = await cursor.fetchone() or (False, None)
            if not is_held or not isinstance(now, datetime):
                yield None
                return
            try:
                yield connection, now
            finally:
                with (
                    suppress(DatabaseError),
                    translate_errors(),
                ):  # a lost connection releases it too
                    await connection.execute(_UNLOCK, key)

    async def _poll_span(self, connection: AsyncConnection, span: Span, now: datetime) -> int:
        count, after = 0, (span.begin, UUID(int=0))
        while page := await self._page(connection, span, after):
            queries = [
                ReceiptQuery(
                    message_id=message_id,
                    provider_message_id=provider_message_id,
                    response=response,
                    age=now - accepted_at,
                )
                for accepted_at, message_id, provider_message_id, response in page
            ]
            if receipts := await self._provider.fetch_receipts(queries):
                await self._store(receipts)
            count += len(receipts)
            after = page[-1][0], page[-1][1]
        return count

    async def _page(
        self, connection: AsyncConnection, span: Span, after: tuple[datetime, UUID]
    ) -> Sequence[tuple[datetime, UUID, str, str | None]]:
        values = (self._channel, self._name, span.begin, span.end, *after, PAGE)
        with translate_errors():
            return await (await connection.execute(_FIND_OPEN, values)).fetchall()
