"""The listening seam: a provider that speaks over the connection it is called by.

A provider may have a second method beside those of `consumers.sdk.provider.Provider`: `listen`. The
channel's process runs it as a task of its own, and gives it what takes the provider's words: the
same desk that webhooks come to. So a receipt that arrives on a socket is looked up, kept and
announced as one that was posted, and a person's STOP is acted on as ever.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from consumers.sdk.receipts import ReceiptEvent


class ReceiptNotStoredError(Exception):
    """What a provider said is not on record, since the database or the broker cannot take it now;
    it must be said again."""


StoreReceipts = Callable[[Sequence[ReceiptEvent]], Awaitable[None]]
"""Takes what a provider said. Returns when all of it is durable, so that the provider may forget
it; saying it twice is one event. May be called while another call has not returned, and what is
told at the same time shares the wait for the broker; what is told in one call costs least.

Raises NotTakenError where the provider must say it again.
"""


@runtime_checkable
class StreamingProvider(Protocol):
    """A provider that hands over what it hears by itself. Its `Kind` says `confirms=True` where
    it speaks of every message, so that silence is noticed."""

    async def listen(self, tell: StoreReceipts) -> None:
        """Run beside `send` until cancelled, and `tell` what the provider says.

        Called once, on the loop that calls `send`, after `open`. It begins anew by itself whenever
        the connection is lost, and acknowledges to the provider only what `tell` has taken. It is
        cancelled after the last call of `send` has ended, and before `close`.

        A receipt with our own id (`Receipt`) is always placed; one with the provider's alone
        (`UnmatchedReceipt`) is not if it overtakes the record of the call that it speaks of.

        Raises nothing but CancelledError: any other error, one that `tell` raised too, is a defect
        that stops the process.
        """
