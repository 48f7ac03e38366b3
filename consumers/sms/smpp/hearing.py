"""What an SMSC delivers, between the link that reads it and the desk that takes it.

The link hands each `deliver_sm` to `hear`; the adapter's `listen` runs `tell_all`. A delivery is
answered when what it says is on record. Until then the SMSC keeps it: when it cannot be recorded
now, or too many wait, the answer asks for it again, and a link that ends without an answer asks for
it too.
"""

import asyncio
from collections import deque

import structlog

from comms.platform import metrics
from consumers.sdk.receipt_stream import ReceiptNotStoredError, StoreReceipts
from consumers.sdk.receipts import ReceiptEvent
from consumers.sms.smpp.link import Link
from consumers.sms.smpp.pdu import Delivery, Pdu, Status, UnreadableError, delivery
from consumers.sms.smpp.receipts import DeliveryReader
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

_MOST_WAITING = 1_000
_MOST_AT_ONCE = 100
_OVERTAKEN_SECONDS = 2.0  # for the answers that receipts may have overtaken

_Arrival = tuple[Link, Pdu]


class Ear:
    """The deliveries of one provider, in the order in which they came."""

    def __init__(self, reader: DeliveryReader, *, channel: Channel, provider: str) -> None:
        self._reader, self._channel, self._provider = reader, channel, provider
        self._waiting: deque[_Arrival] = deque()
        self._any = asyncio.Event()

    def hear(self, link: Link, pdu: Pdu) -> None:
        """Take a delivery, to be answered later."""
        if len(self._waiting) >= _MOST_WAITING:
            link.respond(pdu, Status.SAY_IT_AGAIN)
            return
        self._waiting.append((link, pdu))
        self._any.set()

    async def tell_all(self, tell: StoreReceipts) -> None:
        """Tell what was heard, and what will be, until cancelled."""
        while True:
            await self._any.wait()
            size = min(len(self._waiting), _MOST_AT_ONCE)
            await self._tell([self._waiting.popleft() for _ in range(size)], tell)
            if not self._waiting:
                self._any.clear()

    async def _tell(self, arrivals: list[_Arrival], tell: StoreReceipts) -> None:
        read = [(link, pdu, self._read(link, pdu)) for link, pdu in arrivals]
        deliveries = [(link, pdu, found) for link, pdu, found in read if found is not None]
        for link in {link for link, _, found in deliveries if self._reader.may_overtake(found)}:
            await link.caught_up(seconds=_OVERTAKEN_SECONDS)
        said = [self._reader.read(found) for _, _, found in deliveries]
        status = await self._taken([one for one in said if one is not None], tell)
        for (link, pdu, _), one in zip(deliveries, said, strict=True):
            link.respond(pdu, Status.OK if one is None else status)

    async def _taken(self, said: list[ReceiptEvent], tell: StoreReceipts) -> Status:
        if not said:
            return Status.OK
        try:
            await tell(said)
        except ReceiptNotStoredError as error:
            log.warning("receipt.not_announced", provider=self._provider, problem=str(error))
            return Status.SAY_IT_AGAIN
        return Status.OK

    def _read(self, link: Link, pdu: Pdu) -> Delivery | None:
        try:
            return delivery(pdu)
        except UnreadableError:
            metrics.receipts_total.labels(self._channel, self._provider, "unreadable").inc()
            link.respond(pdu, Status.NEVER)
            return None
