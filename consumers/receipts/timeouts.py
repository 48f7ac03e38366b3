"""Says of a message that nobody confirmed for too long that no receipt came for it.

A provider that sends receipts owes one for every message it took, and for a call whose answer was
lost. A task on the channel's event loop looks for attempts that have waited longer than the channel
allows, and announces `no_receipt` for each: the message stays `sent` or `unknown`, and a receipt
that comes later still wins. Several processes that find the same message announce the same event.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseUnavailableError, translated
from consumers.status.publisher import StatusPublisher
from schemas import events
from schemas.events import StatusEvent
from schemas.vocabulary import Channel, Status

log = structlog.get_logger(__name__)

EVERY_SECONDS = 120.0
FAR_BACK = 7 * 86_400.0  # beyond the time allowed, that a process looks back when it starts
OVERLAP = 180.0  # seconds that a row may be written after the time that stands in it
PAGE = 1000

# The newest attempt of a message, without a receipt. The lower bound is of statement_timestamp(),
# for the index's sake, and moves with the page: what the pages before it had is not read again.
_UNCONFIRMED = """
SELECT o.occurred_at, o.message_id, a.tenant, a.provider, o.attempt, o.status,
    extract(epoch FROM clock_timestamp() - o.occurred_at)::float8
FROM consumers.outcome o JOIN consumers.attempt a USING (message_id, attempt)
WHERE o.status IN ('sent', 'unknown') AND a.channel = %(channel)s
  AND a.provider = ANY(%(providers)s)
  AND o.occurred_at
      BETWEEN greatest(statement_timestamp() - make_interval(secs => %(within)s), %(after_at)s)
          AND statement_timestamp() - make_interval(secs => %(timeout)s)
  AND (o.occurred_at, o.message_id) > (%(after_at)s, %(after_id)s)
  AND NOT EXISTS (SELECT FROM consumers.attempt later
                  WHERE later.message_id = o.message_id AND later.attempt > o.attempt)
  AND NOT EXISTS (SELECT FROM consumers.receipt r WHERE r.message_id = o.message_id)
ORDER BY o.occurred_at, o.message_id LIMIT %(limit)s
"""

# Of these the ones that the audit service shows as the attempt left them, with no timeout on
# record.
_STILL_WAITING = """
SELECT c.n::int
FROM unnest(%b::uuid[], %b::int[], %b::text[]) WITH ORDINALITY AS c (message_id, attempt, status, n)
JOIN audit.recorded_message m ON m.message_id = c.message_id AND m.status = c.status
WHERE NOT EXISTS (SELECT FROM audit.recorded_event e WHERE e.message_id = c.message_id
                  AND e.attempt = c.attempt AND e.reason = 'no_receipt')
ORDER BY c.n
"""


@dataclass(frozen=True, slots=True)
class _Found:
    """An attempt that nobody confirmed; `age` in seconds since it was settled."""

    occurred_at: datetime
    message_id: UUID
    tenant: str
    provider: str
    attempt: int
    status: str
    age: float


_FIRST = datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)


class ReceiptTimeouts:
    """Looks for one channel's messages that wait for a receipt in vain.

    Args:
        providers: those that send receipts; the `sent` of any other is its end.
        timeout_hours: how long a receipt may take; 0 for ever.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        announcer: StatusPublisher,
        *,
        channel: Channel,
        providers: Sequence[str],
        timeout_hours: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._announcer = pool, announcer
        self._channel, self._providers = channel, list(providers)
        self._timeout, self._monotonic = timedelta(hours=timeout_hours), monotonic
        self._told_until = monotonic() - FAR_BACK  # what was overdue before is told and recorded

    async def run(self) -> None:
        """Look now and then, until cancelled; at once done where there is nothing to look for."""
        while self._providers and self._timeout:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.look()
            except DatabaseUnavailableError as error:
                log.warning("ledger.unavailable", problem=str(error))

    async def look(self) -> int:
        """Announce what has become overdue and is not recorded as such; how many.

        Raises:
            DatabaseUnavailableError: look again later.
        """
        now, count, after = self._monotonic(), 0, _FIRST
        oldest = self._timeout.total_seconds()
        within = oldest + now - self._told_until
        while page := await self._unconfirmed(within, after):
            waiting = await self._still_waiting(page)
            for found in waiting:
                self._announcer.announce(self._event(found))
            oldest = max([oldest, *(found.age for found in waiting[:1])])
            count += len(waiting)
            after = page[-1].occurred_at, page[-1].message_id
        # The oldest announced now is looked for again, until the store has heard of it.
        self._told_until = now - (oldest - self._timeout.total_seconds()) - OVERLAP
        if count:
            log.warning("receipts.overdue", count=count)
        return count

    async def _unconfirmed(self, within: float, after: tuple[datetime, UUID]) -> list[_Found]:
        """Return a page of the ledger's attempts that have waited longer than is allowed."""
        values = {
            "channel": self._channel,
            "providers": self._providers,
            "within": within,
            "timeout": self._timeout.total_seconds(),
            "after_at": after[0],
            "after_id": after[1],
            "limit": PAGE,
        }
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_UNCONFIRMED, values)
                return [_Found(*row) for row in await cursor.fetchall()]

    async def _still_waiting(self, page: Sequence[_Found]) -> list[_Found]:
        """Return those of a page that the audit service shows unconfirmed too.

        It is read after the ledger. A receipt that was recorded in between is seen here; one that
        is recorded later wins over the timeout.
        """
        columns = (
            [found.message_id for found in page],
            [found.attempt for found in page],
            [found.status for found in page],
        )
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_STILL_WAITING, columns)
                return [page[n - 1] for (n,) in await cursor.fetchall()]

    def _event(self, found: _Found) -> StatusEvent:
        return events.no_receipt(
            message_id=found.message_id,
            tenant=found.tenant,
            channel=self._channel,
            provider=found.provider,
            attempt=found.attempt,
            status=Status(found.status),
            since=found.occurred_at,
            allowed=self._timeout,
        )
