"""The receipt stream: providers that send receipts over the connection on which they are called.

Such a provider has `listen` beside the methods of `consumers.sdk.provider.Provider`. The channel's
process runs it as a task and passes it a function that stores receipts: the same processor that
handles webhooks. So a receipt that arrives on a socket is matched, stored and published like one
that was posted, and a STOP from a person has the same effect.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from consumers.sdk.receipts import ReceiptEvent


class ReceiptNotStoredError(Exception):
    """Receipts were not stored, because the database or the broker is not available now.

    The provider must send them again.
    """


StoreReceipts = Callable[[Sequence[ReceiptEvent]], Awaitable[None]]
"""Stores receipts. Returns when all of them are durable, so that the provider may forget them.

The same receipt stored twice is one event. Calls may overlap, and then share the wait for the
broker. One call with many receipts costs least.

Raises `ReceiptNotStoredError` if the provider must send them again.
"""


@runtime_checkable
class StreamingProvider(Protocol):
    """A provider that receives its receipts by itself.

    If it reports on every message, its `ProviderType` has `reports_every_message=True`, so that a
    missing report is noticed.
    """

    async def listen(self, tell: StoreReceipts) -> None:
        """Run beside `send` until cancelled, and store what the provider reports.

        Called once, on the loop that calls `send`, after `open`. The method reconnects by itself
        when the connection is lost, and acknowledges to the provider only what `tell` has stored.
        It is cancelled after the last call of `send` has ended, and before `close`.

        A receipt with our own id (`Receipt`) is always matched. A receipt with only the provider's
        id (`UnmatchedReceipt`) is not, if it arrives before the record of its call.

        Raises nothing but CancelledError. Any other error, including one from `tell`, is a defect
        that stops the process.
        """
