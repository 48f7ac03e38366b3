"""What a crash left half done is taken up from the ledger alone, without the topic's help.

The topic usually repeats what was not committed. Where a broker loses what it held at the same time
as a worker dies, only the ledger still knows: of a claim whose call was cut off, of an outcome or a
receipt that was recorded and whose event was lost. A task on the channel's event loop looks for
all of them, far back when the process starts and no further than the last look after that.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from comms.platform.database import DatabaseUnavailableError
from consumers.ledger.decisions import LedgerEntry
from consumers.ledger.delivery import Delivery, Lease
from consumers.ledger.store import Ledger
from consumers.pipeline.decoding import Decoder, RejectedRecord
from consumers.pipeline.settlement import repeated
from consumers.status.publisher import StatusPublisher

log = structlog.get_logger(__name__)

EVERY_SECONDS = 10.0
FAR_BACK = 7 * 86_400.0
AN_HOUR = 3600.0
OVERLAP = 180.0  # seconds that a row may be written after the time that stands in it
ON_ITS_WAY = 60.0  # seconds that an event may take to the audit store
MOST_UNTOLD = 2000
EVEN_OF_THE_LIVING = 900.0


class Recovery:
    """Finds what was left behind on one channel.

    Args:
        doubt_after: seconds after which an unsettled claim's call cannot be running any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        intake: Decoder,
        announcer: StatusPublisher,
        *,
        doubt_after: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._intake, self._announcer = ledger, intake, announcer
        self._doubt_after, self._monotonic = doubt_after, monotonic
        # Everything before these is known to be told, or settled.
        self._told_until = self._settled_until = monotonic() - FAR_BACK

    async def run(self) -> None:
        """Look until cancelled.

        The first wait, and the one after each failure, lets workers that live settle first.
        """
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.look()
            except DatabaseUnavailableError as error:
                log.warning("ledger.unavailable", problem=str(error))
                # What waited for the database may be written now with the time of back then.
                an_hour_ago = self._monotonic() - AN_HOUR
                self._told_until = min(self._told_until, an_hour_ago)
                self._settled_until = min(self._settled_until, an_hour_ago)

    async def look(self) -> None:
        """Take up what was left behind since the last look that found everything in order.

        Raises:
            DatabaseUnavailableError: look again later.
        """
        now = self._monotonic()
        adopted = await self._ledger.requeue_abandoned_claims(
            claimed_within=now - self._settled_until,
            older_than=self._doubt_after,
            even_of_the_living=EVEN_OF_THE_LIVING,
        )
        self._settled_until = now - EVEN_OF_THE_LIVING - OVERLAP
        if adopted:
            log.warning("ledger.recovered", calls_cut_off=adopted)
        if await self._ledger.is_listened_to(ON_ITS_WAY):
            await self._tell_again(now)

    async def _tell_again(self, now: float) -> None:
        """What is known here, and the audit store has not heard although it listens."""
        since = now - self._told_until
        unpublished_outcomes = await self._ledger.unpublished_outcomes(
            settled_within=since, older_than=ON_ITS_WAY, most=MOST_UNTOLD
        )
        for message_id, value, entry in unpublished_outcomes:
            self._tell(self._intake.read(value, Lease(message_id)), entry)
        receipts = await self._ledger.unpublished_receipts(
            taken_within=since, older_than=ON_ITS_WAY, most=MOST_UNTOLD
        )
        for message_id, value in receipts:
            self._announcer.repeat(message_id, value)
        if not unpublished_outcomes and not receipts:
            self._told_until = now - ON_ITS_WAY - OVERLAP
        if unpublished_outcomes or receipts:
            log.warning(
                "ledger.told_again",
                outcomes_untold=len(unpublished_outcomes),
                receipts_untold=len(receipts),
            )

    def _tell(self, found: Delivery | RejectedRecord, entry: LedgerEntry) -> None:
        if isinstance(found, RejectedRecord):  # it was good when it was sent: the rules changed
            log.error("ledger.unreadable", problem=found.detail)
        elif (event := repeated(found, entry)) is not None:
            self._announcer.announce(event)
