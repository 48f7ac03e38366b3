"""Batches of receipts that are on their way to the broker, and the wait for its acknowledgement.

`consumers.receipts.processor` queues the receipts of each request as a `Submission`, works on many
of them together, and waits once for all acknowledgements.
"""

import asyncio
import threading
from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter

from comms.platform import metrics
from comms.platform.kafka import Ack, KafkaFault
from consumers.sdk.receipts import HandedToCarrier, Receipt
from schemas.vocabulary import Channel


@cache  # to find a counter by its labels costs more than the rest of counting
def _counter(channel: Channel, provider: str, result: str) -> Counter:
    return metrics.receipts_total.labels(channel.value, provider, result)


@dataclass(frozen=True, slots=True)
class ReceiptSource:
    """The provider that sent a receipt."""

    channel: Channel
    provider: str

    def count(self, result: str) -> None:
        """Count a receipt of this provider."""
        _counter(self.channel, self.provider, result).inc()


@dataclass(slots=True, eq=False)
class Submission:
    """The receipts of one request.

    Args:
        done: resolved when all are published; the caller waits for it.
        problem: why a receipt is not published.
    """

    source: ReceiptSource
    receipts: list[Receipt | HandedToCarrier]
    done: asyncio.Future[None]
    problem: Exception | None = None

    def resolve(self) -> None:
        """End the caller's wait, with the problem if there is one."""
        if self.done.done():  # the caller has gone
            return
        if self.problem is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(self.problem)


class BatchAcks:
    """Waits for the acknowledgements of a batch with one hand-over from the broker's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._open = 1  # one for the batch itself, until `wait`
        self._all = asyncio.Event()

    def expect(self, submission: Submission, result: str) -> Ack:
        """Return the callback of one more record; it may be called on any thread."""
        with self._lock:
            self._open += 1

        def on_ack(fault: KafkaFault | None) -> None:
            if fault is not None:
                submission.problem = fault
            submission.source.count(result if fault is None else "unavailable")
            self._count_down()

        return on_ack

    async def wait(self) -> None:
        """Wait for every record's callback. The producer limits how long that takes."""
        self._count_down()
        await self._all.wait()

    def _count_down(self) -> None:
        with self._lock:
            self._open -= 1
            is_last = self._open == 0
        if is_last:
            self._loop.call_soon_threadsafe(self._all.set)
