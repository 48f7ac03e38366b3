"""A message on its way through a channel process, and where it came from.

The poll thread makes a `Delivery` from a record, the deferred queue makes one from a row; the
dispatcher carries both alike, and reports the source as done when what came of it is announced.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from comms.kafka import Place
from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class Offset:
    """A record of the topic. `epoch` tells this assignment of the partition from earlier ones."""

    place: Place
    offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A row of the deferred queue, leased to this process; `until` tells the lease from others of
    the same message. A message that was taken from elsewhere in the ledger has none."""

    message_id: UUID
    until: datetime | None = None


Source = Offset | Lease


@dataclass(frozen=True, slots=True, repr=False)
class Delivery:
    """One message to deliver; `value` is its encoded form, kept in case it steps aside."""

    message: Message
    value: bytes
    source: Source

    def __repr__(self) -> str:
        return f"Delivery({self.message.id} from {self.source})"
