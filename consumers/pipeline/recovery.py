"""Finishes what a crash left half done, from the ledger alone.

The topic usually repeats what was not committed. Where a broker loses what it held at the same time
as a worker dies, only the ledger still knows: of a claim whose call was cut off, and of an outcome
or a receipt that was recorded and whose event was lost. `consumers.service` runs a `Recovery` as a
task on the channel's event loop. It looks for all of them, far back when the process starts and no
further than the last look after that.
"""

import time
from collections.abc import Callable

import structlog

from comms.platform.database_retry import run_periodically
from consumers.ledger.decisions import LedgerEntry
from consumers.ledger.delivery import Delivery, Lease
from consumers.ledger.store import Ledger
from consumers.ledger.unpublished import Progress, UnpublishedEvents, Window
from consumers.pipeline.decoding import Decoder, RejectedRecord
from consumers.pipeline.settlement import rebuild_event
from consumers.status.publisher import StatusPublisher

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
FAR_BACK = 7 * 86_400.0
AN_HOUR = 3600.0
OVERLAP = 180.0  # seconds that a row may be written after the time that stands in it
ON_TIME = 10.0  # seconds that almost every row is written after that time
LATE_LOOK_SECONDS = 60.0  # how often the whole overlap is looked through
IN_TRANSIT = 60.0  # seconds that an event may take to the audit service
JUST_PUBLISHED = 5.0  # seconds within which no event is missed yet
RECORDED_MARGIN = 2.0  # seconds that an event may be published after the time that stands in it
LIMIT = 2000  # events that one look publishes again
RUNNING_OWNER_SECONDS = 900.0  # age at which the claims of processes that run are requeued too


class Recovery:
    """Finds what was left behind on one channel.

    Args:
        doubt_after: seconds after which an unsettled claim's call cannot be running any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        unpublished: UnpublishedEvents,
        decoder: Decoder,
        publisher: StatusPublisher,
        *,
        doubt_after: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._unpublished = unpublished
        self._decoder = decoder
        self._publisher = publisher
        self._doubt_after = doubt_after
        self._monotonic = monotonic
        start = monotonic() - FAR_BACK
        # Every claim from before this is settled.
        self._settled_until = start
        # Every event from before this is recorded, but for rows that were written late.
        self._recorded_until = start
        # Every event from before this is recorded. Only a late look reads what lies between the
        # two, because it is read again and again: a row is looked at while it is younger than the
        # overlap.
        self._late_recorded_until = start
        self._late_look_at = start

    async def run(self) -> None:
        """Recover until cancelled.

        The first wait, and the one after each failure, lets running processes settle first.
        """
        await run_periodically(
            self.recover,
            seconds=LOOK_SECONDS,
            on_error=lambda _: self._look_an_hour_back(),
            wait_first=True,
        )

    async def recover(self) -> None:
        """Finish what was left behind since the last look that found everything in order.

        Raises:
            DatabaseUnavailableError: look again later.
        """
        now = self._monotonic()
        await self._requeue(now)
        progress = await self._unpublished.progress()
        if progress is not None and progress.active < IN_TRANSIT:
            await self._publish_again(now, progress)

    def _look_an_hour_back(self) -> None:
        """Look an hour back again: rows that waited for the database have the time of back then."""
        an_hour_ago = self._monotonic() - AN_HOUR
        self._settled_until = min(self._settled_until, an_hour_ago)
        self._recorded_until = min(self._recorded_until, an_hour_ago)
        self._late_recorded_until = min(self._late_recorded_until, an_hour_ago)

    async def _requeue(self, now: float) -> None:
        """Queue messages whose claim was left without an outcome."""
        requeued = await self._ledger.requeue_abandoned_claims(
            claimed_within=now - self._settled_until,
            older_than=self._doubt_after,
            running_owner_seconds=RUNNING_OWNER_SECONDS,
        )
        self._settled_until = now - RUNNING_OWNER_SECONDS - OVERLAP
        if requeued:
            log.warning("ledger.claims_requeued", count=requeued)

    async def _publish_again(self, now: float, progress: Progress) -> None:
        """Publish what the ledger knows and the audit service, although it records, does not."""
        is_late_look = now - self._late_look_at >= LATE_LOOK_SECONDS
        since = self._late_recorded_until if is_late_look else self._recorded_until
        window = Window(oldest=now - since, newest=_missing_after(progress))
        outcomes = await self._unpublished.outcomes(window, limit=LIMIT)
        for message_id, value, entry in outcomes:
            self._publish(self._decoder.read(value, Lease(message_id)), entry)
        receipts = await self._unpublished.receipts(window, limit=LIMIT)
        for message_id, value in receipts:
            self._publisher.republish(message_id, value)
        if outcomes or receipts:
            log.warning("ledger.republished", outcomes=len(outcomes), receipts=len(receipts))
            return
        self._recorded_until = now - window.newest - ON_TIME
        if is_late_look:
            self._late_recorded_until = now - window.newest - OVERLAP
            self._late_look_at = now

    def _publish(self, decoded: Delivery | RejectedRecord, entry: LedgerEntry) -> None:
        if isinstance(decoded, RejectedRecord):
            # It was valid when it was sent: the rules have changed.
            log.error("ledger.unreadable", problem=decoded.detail)
        elif (event := rebuild_event(decoded, entry)) is not None:
            self._publisher.publish(event)


def _missing_after(progress: Progress) -> float:
    """Return the age in seconds from which an event that is not recorded is missing.

    It has had a minute to be recorded, or less where the audit service has recorded everything that
    was published until just now.
    """
    return max(JUST_PUBLISHED, min(IN_TRANSIT, progress.recorded + RECORDED_MARGIN))
