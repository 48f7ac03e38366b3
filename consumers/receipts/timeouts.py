"""Reports receipts that did not come in time.

A provider that sends receipts owes one for every message it accepted, and for a call whose answer
was lost. A task on the channel's event loop looks for attempts that have waited longer than the
channel allows, and publishes `no_receipt` for each. The message stays `sent` or `unknown`, and a
receipt that comes later still wins. Several processes that find the same message publish the same
event.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from comms.platform.database_retry import run_periodically
from consumers.status.publisher import StatusPublisher
from schemas import events
from schemas.events import StatusEvent
from schemas.vocabulary import Channel, Status

log = structlog.get_logger(__name__)

LOOK_SECONDS = 120.0
FAR_BACK = 7 * 86_400.0  # beyond the time allowed, how far back a process looks at its start
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
class _UnconfirmedAttempt:
    """An attempt without a receipt; `age` in seconds since it was settled."""

    occurred_at: datetime
    message_id: UUID
    tenant: str
    provider: str
    attempt: int
    status: str
    age: float


_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)


class ReceiptTimeouts:
    """Looks for the messages of one channel whose receipt did not come in time.

    Args:
        providers: those that send receipts. For any other, `sent` is final.
        timeout_hours: how long a receipt may take; 0 for no limit.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        publisher: StatusPublisher,
        *,
        channel: Channel,
        providers: Sequence[str],
        timeout_hours: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._channel = channel
        self._providers = list(providers)
        self._timeout = timedelta(hours=timeout_hours)
        self._monotonic = monotonic
        # Every timeout from before this is published and recorded.
        self._reported_until = monotonic() - FAR_BACK

    async def run(self) -> None:
        """Look until cancelled. Ends at once if no provider owes receipts, or without a limit."""
        if self._providers and self._timeout:
            await run_periodically(self.report_overdue, seconds=LOOK_SECONDS, wait_first=True)

    async def report_overdue(self) -> int:
        """Publish the timeouts that are not recorded yet.

        Returns:
            How many there were.

        Raises:
            DatabaseUnavailableError: look again later.
        """
        now, count, after = self._monotonic(), 0, _BEGINNING
        oldest = self._timeout.total_seconds()
        within = oldest + now - self._reported_until
        while page := await self._unconfirmed(within, after):
            waiting = await self._still_waiting(page)
            for attempt in waiting:
                self._publisher.publish(self._build_event(attempt))
            oldest = max([oldest, *(attempt.age for attempt in waiting[:1])])
            count += len(waiting)
            after = page[-1].occurred_at, page[-1].message_id
        # The oldest of these is looked for again, until the audit service has recorded it.
        self._reported_until = now - (oldest - self._timeout.total_seconds()) - OVERLAP
        if count:
            log.warning("receipts.overdue", count=count)
        return count

    async def _unconfirmed(
        self, within: float, after: tuple[datetime, UUID]
    ) -> list[_UnconfirmedAttempt]:
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
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_UNCONFIRMED, values)
                return [_UnconfirmedAttempt(*row) for row in await cursor.fetchall()]

    async def _still_waiting(
        self, page: Sequence[_UnconfirmedAttempt]
    ) -> list[_UnconfirmedAttempt]:
        """Return those of a page that the audit service shows unconfirmed too.

        It is read after the ledger. A receipt that was recorded in between is seen here; one that
        is recorded later wins over the timeout.
        """
        columns = (
            [attempt.message_id for attempt in page],
            [attempt.attempt for attempt in page],
            [attempt.status for attempt in page],
        )
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_STILL_WAITING, columns)
                return [page[n - 1] for (n,) in await cursor.fetchall()]

    def _build_event(self, attempt: _UnconfirmedAttempt) -> StatusEvent:
        return events.no_receipt(
            message_id=attempt.message_id,
            tenant=attempt.tenant,
            channel=self._channel,
            provider=attempt.provider,
            attempt=attempt.attempt,
            status=Status(attempt.status),
            since=attempt.occurred_at,
            allowed=self._timeout,
        )
