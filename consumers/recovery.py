"""What a crash left half done is taken up from the ledger alone, without the topic's help.

The topic usually repeats what was not committed. Where a broker loses what it held at the same time
as a worker dies, only the ledger still knows: of a claim whose call was cut off, and of an outcome
that was recorded and never announced. A task on the channel's event loop looks for both, far back
when the process starts and over the last hour after that.
"""

import asyncio

import structlog

from comms.database import DatabaseUnavailableError
from consumers.announcer import Announcer
from consumers.delivery import Delivery, Lease
from consumers.intake import Bad, Intake
from consumers.ledger import Ledger
from consumers.settlement import repeated
from consumers.verdicts import LedgerEntry

log = structlog.get_logger(__name__)

EVERY_SECONDS = 20.0
FAR_BACK = 7 * 86_400.0
AN_HOUR = 3600.0
ON_ITS_WAY = 60.0  # seconds that an event may take to the audit store
MOST_UNTOLD = 200
EVEN_OF_THE_LIVING = 900.0


class Recovery:
    """Finds what was left behind on one channel.

    Args:
        doubt_after: seconds after which an unsettled claim's call cannot be running any more.
    """

    def __init__(
        self, ledger: Ledger, intake: Intake, announcer: Announcer, *, doubt_after: float
    ) -> None:
        self._ledger, self._intake, self._announcer = ledger, intake, announcer
        self._doubt_after = doubt_after

    async def run(self) -> None:
        """Look until cancelled.

        The first wait, and the one after each failure, lets workers that live settle first.
        """
        looked_back = FAR_BACK
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.look(looked_back)
                looked_back = AN_HOUR
            except DatabaseUnavailableError as error:
                log.warning("ledger.unavailable", problem=str(error))

    async def look(self, seconds: float) -> None:
        """Take up what was left behind within the last `seconds`.

        Raises:
            DatabaseUnavailableError: look again later.
        """
        adopted = await self._ledger.adopt_orphans(
            claimed_within=seconds,
            older_than=self._doubt_after,
            even_of_the_living=EVEN_OF_THE_LIVING,
        )
        untold = await self._ledger.untold(
            settled_within=seconds, older_than=ON_ITS_WAY, most=MOST_UNTOLD
        )
        for message_id, value, entry in untold:
            self._tell(self._intake.read(value, Lease(message_id)), entry)
        if adopted or untold:
            log.warning("ledger.recovered", calls_cut_off=adopted, outcomes_untold=len(untold))

    def _tell(self, found: Delivery | Bad, entry: LedgerEntry) -> None:
        if isinstance(found, Bad):  # it was good when it was sent: the rules changed
            log.error("ledger.unreadable", problem=found.detail)
        elif (event := repeated(found, entry)) is not None:
            self._announcer.announce(event)
