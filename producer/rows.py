"""The values that the relay reads from the queue: rows and positions.

`producer.queue` reads and writes them. `producer.ordering` decides where each row is published, and
`producer.publisher` makes Kafka records and status events of them.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from producer.shards import lane_of
from schemas.messages import MessageHeader
from schemas.topics import STATUS, of_channel
from schemas.vocabulary import Channel, Priority


@dataclass(frozen=True, slots=True)
class Position:
    """The position up to which the relay has published a shard."""

    shard: int
    xid: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """A row of the queue, with the columns of its message that status events carry.

    The columns of the message are None for a row that is itself a status event.
    `queue.read_pending_for_recipients` sets `is_published` if the row is already in its topic.
    """

    message_id: UUID
    topic: str
    key: str
    value: bytes
    shard: int
    xid: str
    seq: int
    tenant: str | None
    channel: str | None
    recipient: str | None
    customer_id: str | None
    workflow: str | None
    priority: str | None
    created_at: datetime | None
    send_at: datetime | None
    expires_at: datetime | None
    metadata: dict[str, str] | None
    is_published: bool = False

    def __repr__(self) -> str:
        return f"QueueRow({self.message_id} {self.topic})"

    @property
    def is_event(self) -> bool:
        """Whether the row is a status event. The relay deletes it once it is published."""
        return self.topic == STATUS

    @property
    def lane(self) -> Priority:
        """The priority of the row's shard."""
        return lane_of(self.shard)

    @property
    def is_moved(self) -> bool:
        """Whether the row is published to the topic of another lane than its shard's."""
        return not self.is_event and self.topic != of_channel(Channel(str(self.channel)), self.lane)

    @property
    def position(self) -> Position:
        """The position of the row in its shard."""
        return Position(self.shard, self.xid, self.seq)


def header_of(row: QueueRow) -> MessageHeader | None:
    """Return the header of the row's message, for its status events.

    None for a status event, and for a message that was erased in the meantime.
    """
    if (
        row.tenant is None
        or row.channel is None
        or row.recipient is None
        or row.priority is None
        or row.created_at is None
    ):
        return None
    return MessageHeader(
        id=row.message_id,
        tenant=row.tenant,
        channel=Channel(row.channel),
        recipient=row.recipient,
        customer_id=row.customer_id,
        workflow=row.workflow,
        priority=Priority(row.priority),
        created_at=row.created_at,
        send_at=row.send_at,
        expires_at=row.expires_at,
        metadata=row.metadata or {},
    )
