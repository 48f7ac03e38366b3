"""The Kafka topics: their names, partitions and retention.

`comms topics apply` creates them. Producers and consumers take the names from here.
"""

from dataclasses import dataclass

from schemas.vocabulary import Channel, Priority

STATUS = "comms.status"
DEAD_LETTERS = "comms.dead-letters"

LARGEST_RECORD = 8 * 1024 * 1024  # bytes: enough for an e-mail with its attachments
DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is created.

    Args:
        name: the name of the topic.
        partitions: their number also limits how many processes can share a channel.
        retention_ms: how long records are kept.
    """

    name: str
    partitions: int
    retention_ms: int


def of_channel(channel: Channel, priority: Priority = Priority.NORMAL) -> str:
    """Return the topic of a channel and a priority: `comms.sms`, `comms.sms.high`."""
    return f"comms.{channel}" + ("" if priority is Priority.NORMAL else f".{priority}")


def group_of(channel: Channel, priority: Priority = Priority.NORMAL) -> str:
    """Return the consumer group that reads this topic: `comms-sms`, `comms-sms-high`."""
    return of_channel(channel, priority).replace(".", "-")


TOPICS = (
    *(
        Topic(of_channel(channel, priority), 12, 7 * DAY_MS)
        for channel in Channel
        for priority in Priority
    ),
    Topic(STATUS, 12, 7 * DAY_MS),
    Topic(DEAD_LETTERS, 1, 30 * DAY_MS),
)
