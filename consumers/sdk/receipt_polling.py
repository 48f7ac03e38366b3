"""Receipt polling: providers that report the fate of a message only when they are asked.

Such a provider has `fetch_receipts` beside the methods of `consumers.sdk.provider.Provider`.
`consumers.receipts.poller` finds in the ledger the messages that have no receipt, calls the method
with many of them at once, and passes the receipts to the same processor as webhooks. An adapter
keeps no state: what it needs for a query is what its `Accepted` put into the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable
from uuid import UUID

from consumers.sdk.receipts import ReceiptEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSchedule:
    """When a provider has its receipts, counted from the time it accepted a message.

    Args:
        ready_after: the time before which a query is useless.
        kept_for: the time after which the provider has deleted the receipt.
    """

    ready_after: timedelta
    kept_for: timedelta

    @property
    def moments(self) -> Sequence[timedelta]:
        """The ages at which a message without a receipt is queried. Each is twice the last."""
        ages, age = list[timedelta](), self.ready_after
        while age < self.kept_for:
            ages.append(age)
            age *= 2
        return ages


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptQuery:
    """A message that the provider accepted, and that has no receipt yet.

    Args:
        message_id: our id.
        provider_message_id: as in `Accepted`.
        response: the raw response, as in `Accepted`.
        age: the time since the provider accepted it.
    """

    message_id: UUID
    provider_message_id: str
    response: str | None
    age: timedelta


class ReceiptPollError(Exception):
    """The provider did not answer, or its answer had no receipts. The query is repeated.

    Attributes:
        after: the number of seconds that the provider asked us to wait (Retry-After), or None.
    """

    def __init__(self, problem: str, *, after: float | None = None) -> None:
        super().__init__(problem)
        self.after = after


@runtime_checkable
class PollableProvider(Protocol):
    """A provider whose receipts are polled."""

    @property
    def poll_schedule(self) -> PollSchedule:
        """When the provider has its receipts."""

    async def fetch_receipts(self, queries: Sequence[ReceiptQuery]) -> Sequence[ReceiptEvent]:
        """Fetch the receipts of messages. Runs beside `send`, on the same loop.

        Returns:
            A receipt, with our id, for each message whose fate is known; nothing for the others.
            It is final: the message is not queried again. A provider that only knows that it
            passed the message on returns `HandedToCarrier`.

        Raises:
            ReceiptPollError: nothing is known of any of them.
        """
