"""What a consumer knows aside of its records: whether its group is at rest, and whether a topic is
still the log that it read.

A `TopicConsumer` feeds both from librdkafka's callbacks. Leaving a group while it is being formed
anew leaves others without partitions on the embedded broker, which goes on waiting for a leader
that is gone; so a member that leaves waits for rest first. And a broker that lost what it held may
hold a new log under the old name: an offset of the old one would silently skip its beginning.
"""

import json
from collections.abc import Callable, Iterable, Mapping

Identify = Callable[[Iterable[str]], Mapping[str, str]]


class GroupState:
    """Whether the group was being formed when librdkafka last spoke of it, and how often it did."""

    def __init__(self) -> None:
        self.told, self.is_forming = 0, False

    def heard(self, statistics: str) -> None:
        """librdkafka's `stats_cb`."""
        group = json.loads(statistics).get("cgrp", {})
        self.told += 1
        self.is_forming = group.get("state") == "up" and group.get("join_state") != "steady"


class LogIdentity:
    """Whether topics are the logs that they were, which is asked once after each lost connection.

    Args:
        identify: the topics' ids; a topic that is made again has another one.
    """

    def __init__(self, identify: Identify, topics: Iterable[str]) -> None:
        self._identify, self._topics = identify, tuple(topics)
        self._known: Mapping[str, str] = {}
        self.in_doubt = True

    def doubt(self) -> None:
        """A connection was lost: there may be another broker behind the next one."""
        self.in_doubt = True

    def replaced(self) -> frozenset[str]:
        """The topics that are other logs than when this was last asked.

        Raises:
            KafkaUnavailableError: it cannot be told now.
        """
        found = self._identify(self._topics)
        known, self._known, self.in_doubt = self._known, found, False
        return frozenset(topic for topic, log in known.items() if found[topic] != log)
