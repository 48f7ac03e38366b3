"""What a consumer knows aside of its records: whether its group is at rest, and whether a topic is
still the log that it read.

A `TopicConsumer` feeds both from librdkafka's callbacks. Leaving a group while it is being formed
anew leaves others without partitions on the embedded broker, which goes on waiting for a leader
that is gone; so a member that leaves waits for rest first. And a broker that lost what it held may
hold a new log under the old name: an offset of the old one would silently skip its beginning.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping

QUIET_SECONDS = 3.5  # longer than the embedded broker lets a member wait that joins
FIRST_IDLE_SECONDS, LONGEST_IDLE_SECONDS = 15.0, 900.0

Identify = Callable[[Iterable[str]], Mapping[str, str]]


class GroupState:
    """Whether the group was being formed when librdkafka last spoke of it, how often it did, and
    how long ago partitions last moved: one rebalance is often followed by the next."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._moved_at = monotonic, -QUIET_SECONDS
        self.told, self.is_forming = 0, False

    def moved(self) -> None:
        """Partitions came or went."""
        self._moved_at = self._monotonic()

    def is_at_rest(self, *, since: int) -> bool:
        """Whether the group can be left, as was told more often than `since` times."""
        quiet = self._monotonic() - self._moved_at >= QUIET_SECONDS
        return quiet and self.told > since and not self.is_forming

    def heard(self, statistics: str) -> None:
        """librdkafka's `stats_cb`."""
        group = json.loads(statistics).get("cgrp", {})
        self.told += 1
        self.is_forming = group.get("state") == "up" and group.get("join_state") != "steady"


class Idle:
    """Whether a member has been without partitions for so long that it should join anew: a group
    of the embedded broker may be at rest with nobody reading. Where there are more members than
    partitions that helps nobody, so it is done ever more rarely."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._wait = monotonic, FIRST_IDLE_SECONDS
        self._until = monotonic() + self._wait

    def is_too_long(self, has_partitions: bool) -> bool:
        """Whether to join anew now."""
        now = self._monotonic()
        if has_partitions:
            self._wait = FIRST_IDLE_SECONDS
        elif now < self._until:
            return False
        else:
            self._wait = min(2 * self._wait, LONGEST_IDLE_SECONDS)
        self._until = now + self._wait
        return not has_partitions


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

    def is_same(self) -> bool:
        """Whether they are all the logs that they were, without taking note of it.

        Raises:
            KafkaUnavailableError: it cannot be told now.
        """
        return not self._known or dict(self._identify(self._topics)) == dict(self._known)

    def replaced(self) -> frozenset[str]:
        """The topics that are other logs than when this was last asked.

        Raises:
            KafkaUnavailableError: it cannot be told now.
        """
        found = self._identify(self._topics)
        known, self._known, self.in_doubt = self._known, found, False
        return frozenset(topic for topic, log in known.items() if found[topic] != log)
