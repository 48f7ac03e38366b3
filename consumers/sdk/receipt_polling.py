"""The asking seam: a provider that says what became of a message only when it is asked.

A provider may have, beside the methods of `consumers.sdk.provider.Provider`, one that asks: `ask`.
`consumers.receipts.poller` finds in the ledger what there is to ask about, calls it with many
messages at once, and gives what came to the desk that webhooks come to. An adapter asks, reads and
keeps nothing: what it needs to ask is what its `Accepted` put into the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable
from uuid import UUID

from consumers.sdk.receipts import ReceiptEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSchedule:
    """When a provider has its answers.

    Args:
        ready_after: it took a message, before which nobody need ask.
        kept_for: after it took a message; later it has forgotten.
    """

    ready_after: timedelta
    kept_for: timedelta

    @property
    def moments(self) -> Sequence[timedelta]:
        """The ages at which a message is asked about, until it is answered: each twice the last."""
        found, age = list[timedelta](), self.ready_after
        while age < self.kept_for:
            found.append(age)
            age *= 2
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptQuery:
    """A message that the provider took, and of which it has said nothing more.

    Args:
        provider_message_id, response: what it said when it took it, as `Accepted` had them.
        age: since then.
    """

    message_id: UUID
    provider_message_id: str
    response: str | None
    age: timedelta


class ReceiptPollError(Exception):
    """The provider did not answer, or not what was asked; ask again.

    Attributes:
        after: seconds it asked us to wait (Retry-After), or None.
    """

    def __init__(self, problem: str, *, after: float | None = None) -> None:
        super().__init__(problem)
        self.after = after


@runtime_checkable
class PollableProvider(Protocol):
    """A provider that is asked."""

    @property
    def poll_schedule(self) -> PollSchedule:
        """When it has its answers."""

    async def fetch_receipts(self, queries: Sequence[ReceiptQuery]) -> Sequence[ReceiptEvent]:
        """What became of these messages, each by our id; nothing of those that it cannot tell of
        yet. Runs beside `send`, on the same loop, and returns within the adapter's own limit.

        A word given is the last: the message is not asked about again. So a provider that can say
        no more than that it passed the message on says that (`HandedToCarrier`).

        Raises:
            ReceiptPollError: nothing is known of any of them.
        """
