"""The state of a consumer beside its records: its group, its idle time, and the ids of its topics.

A `TopicConsumer` feeds this state from librdkafka's callbacks and asks it what to do.

- `GroupState`: on the embedded broker, a member that leaves during a rebalance can leave the other
  members without partitions, because the group waits for a leader that is gone. Therefore a member
  waits until the group is stable before it leaves.
- `IdleTimer`: a member that had no partitions for a long time joins again.
- `TopicIdTracker`: a broker that lost its records may have a new log under the old topic name. An
  offset of the old log would skip the first records of the new one.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping

QUIET_SECONDS = 3.5  # longer than the embedded broker makes a joining member wait
FIRST_IDLE_SECONDS = 15.0
LONGEST_IDLE_SECONDS = 900.0

ReadTopicIds = Callable[[Iterable[str]], Mapping[str, str]]


class GroupState:
    """Whether the consumer group is rebalancing, and when partitions last moved.

    One rebalance is often followed by the next, so a group is stable only after a quiet time.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._moved_at = -QUIET_SECONDS
        self.report_count = 0
        self.is_rebalancing = False

    def on_partitions_moved(self) -> None:
        """Note that partitions were assigned or revoked."""
        self._moved_at = self._monotonic()

    def on_statistics(self, statistics: str) -> None:
        """Read the state of the group. This is librdkafka's `stats_cb`."""
        group = json.loads(statistics).get("cgrp", {})
        self.report_count += 1
        self.is_rebalancing = group.get("state") == "up" and group.get("join_state") != "steady"

    def is_stable(self, *, since: int) -> bool:
        """Whether a member can leave the group now.

        Args:
            since: a value of `report_count`; the answer is based on a later report only.
        """
        is_quiet = self._monotonic() - self._moved_at >= QUIET_SECONDS
        return is_quiet and self.report_count > since and not self.is_rebalancing


class IdleTimer:
    """Says when a member without partitions should join its group again.

    A group of the embedded broker may be stable although no member has partitions. If there are
    more members than partitions, joining again does not help. Therefore the waiting time doubles.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._wait = FIRST_IDLE_SECONDS
        self._deadline = monotonic() + self._wait

    def is_rejoin_due(self, *, has_partitions: bool) -> bool:
        """Whether the member should join again now. If so, the next waiting time begins."""
        now = self._monotonic()
        if has_partitions:
            self._wait = FIRST_IDLE_SECONDS
        elif now < self._deadline:
            return False
        else:
            self._wait = min(2 * self._wait, LONGEST_IDLE_SECONDS)
        self._deadline = now + self._wait
        return not has_partitions


class TopicIdTracker:
    """Detects that a topic was created again; it is checked once after each lost connection.

    Args:
        read_topic_ids: reads the ids of topics. A topic that is created again has another id.
    """

    def __init__(self, read_topic_ids: ReadTopicIds, topics: Iterable[str]) -> None:
        self._read_topic_ids = read_topic_ids
        self._topics = tuple(topics)
        self._ids: Mapping[str, str] = {}
        self.is_stale = True

    def mark_stale(self) -> None:
        """Note that a connection was lost: the next one may lead to another broker."""
        self.is_stale = True

    def is_unchanged(self) -> bool:
        """Whether all topics still have the ids that were read last. The ids are not updated.

        Raises:
            KafkaUnavailableError: the ids cannot be read now.
        """
        return not self._ids or dict(self._read_topic_ids(self._topics)) == dict(self._ids)

    def find_replaced(self) -> frozenset[str]:
        """Read the ids again, and return the topics whose ids have changed since the last time.

        Raises:
            KafkaUnavailableError: the ids cannot be read now.
        """
        new_ids = self._read_topic_ids(self._topics)
        old_ids = self._ids
        self._ids = new_ids
        self.is_stale = False
        return frozenset(topic for topic, old_id in old_ids.items() if new_ids[topic] != old_id)
