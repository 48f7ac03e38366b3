"""The topics: names, partitions, and how long what stands in them is kept.

`comms topics apply` creates them; producers and consumers take their names from here.
"""

from dataclasses import dataclass

from schemas.vocabulary import Channel, Priority

STATUS = "comms.status"
DEAD_LETTERS = "comms.dead-letters"

LARGEST_RECORD = 8 * 1024 * 1024  # bytes; an e-mail with its attachments
DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is created. `partitions` bounds how many instances share a channel."""

    name: str
    partitions: int
    retention_ms: int


def of_channel(channel: Channel, priority: Priority = Priority.NORMAL) -> str:
    """The topic of a channel's messages of a priority: `comms.sms`, `comms.sms.high`."""
    return f"comms.{channel}" + ("" if priority is Priority.NORMAL else f".{priority}")


def group_of(channel: Channel, priority: Priority = Priority.NORMAL) -> str:
    """The consumer group that reads it: `comms-sms`, `comms-sms-high`."""
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
