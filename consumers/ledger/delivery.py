"""A message on its way through a channel process, and the source it came from.

The poll thread makes a `Delivery` from a Kafka record, and the deferred queue makes one from a row.
The dispatcher treats both alike. It reports the source as done once the message's event is
published.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from comms.platform.kafka import TopicPartition
from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class Offset:
    """A record of a topic. `epoch` tells this assignment of the partition from earlier ones."""

    partition: TopicPartition
    offset: int
    epoch: int


RETRY_NONCE = UUID(int=0)  # of a row that the retry policy queued, not a person


@dataclass(frozen=True, slots=True)
class Lease:
    """A row of the deferred queue, leased to this process.

    Args:
        nonce: the id of a person's resend request; `RETRY_NONCE` for a retry.
        until: the end of the lease, which tells it from other leases of the same row. None for a
            message that was read from elsewhere in the ledger.
    """

    message_id: UUID
    nonce: UUID = RETRY_NONCE
    until: datetime | None = None


DeliverySource = Offset | Lease


@dataclass(frozen=True, slots=True, repr=False)
class Delivery:
    """One message to deliver.

    Args:
        value: its encoded form, kept in case it is deferred.
        replayed: an operator put it back into its topic from the dead letters.
    """

    message: Message
    value: bytes
    source: DeliverySource
    replayed: bool = False

    @property
    def resend_request(self) -> UUID | None:
        """The nonce of the resend request that this delivery is for; None if there is none."""
        nonce = self.source.nonce if isinstance(self.source, Lease) else RETRY_NONCE
        return None if nonce == RETRY_NONCE else nonce

    def __repr__(self) -> str:
        return f"Delivery({self.message.id} from {self.source})"
