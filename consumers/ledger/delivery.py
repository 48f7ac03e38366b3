"""A message on its way through a channel process, and where it came from.

The poll thread makes a `Delivery` from a record, the deferred queue makes one from a row; the
dispatcher carries both alike, and reports the source as done when what came of it is announced.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from comms.platform.kafka import TopicPartition
from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class Offset:
    """A record of the topic. `epoch` tells this assignment of the partition from earlier ones."""

    place: TopicPartition
    offset: int
    epoch: int


ORDINARY = UUID(int=0)  # the nonce of what the policy queued, and no person


@dataclass(frozen=True, slots=True)
class Lease:
    """A row of the deferred queue, leased to this process.

    Args:
        nonce: of a person's wish for another attempt; `ORDINARY` for a retry.
        until: tells the lease from others of the same row. A message that was taken from elsewhere
            in the ledger has none.
    """

    message_id: UUID
    nonce: UUID = ORDINARY
    until: datetime | None = None


DeliverySource = Offset | Lease


@dataclass(frozen=True, slots=True, repr=False)
class Delivery:
    """One message to deliver.

    Args:
        value: its encoded form, kept in case it steps aside.
        replayed: a person put it back into its topic from the dead letters.
    """

    message: Message
    value: bytes
    source: DeliverySource
    replayed: bool = False

    @property
    def resend_request(self) -> UUID | None:
        """The nonce of the wish that this delivery is about, if a person asked for it."""
        nonce = self.source.nonce if isinstance(self.source, Lease) else ORDINARY
        return None if nonce == ORDINARY else nonce

    def __repr__(self) -> str:
        return f"Delivery({self.message.id} from {self.source})"
