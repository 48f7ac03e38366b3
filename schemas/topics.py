"""The topics: names, partitions, and how long what stands in them is kept.

`comms topics apply` creates them; producers and consumers take their names from here.
"""

from dataclasses import dataclass

from schemas.vocabulary import Channel

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


def of_channel(channel: Channel) -> str:
    """The topic of a channel's messages, e.g. `comms.sms`."""
    return f"comms.{channel}"


def group_of(channel: Channel) -> str:
    """The consumer group of a channel, e.g. `comms-sms`."""
    return f"comms-{channel}"


TOPICS = (
    *(Topic(of_channel(channel), 12, 7 * DAY_MS) for channel in Channel),
    Topic(STATUS, 12, 7 * DAY_MS),
    Topic(DEAD_LETTERS, 1, 30 * DAY_MS),
)
