"""A cluster as the settings describe it: where every client comes from, and its topics."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from comms.platform.kafka.consuming import Rebalance, Record, TopicConsumer
from comms.platform.kafka.errors import (
    CLIENT_LOG,
    Admission,
    KafkaFault,
    KafkaUnavailableError,
    fault_of,
)
from comms.platform.kafka.producing import EventProducer, TopicPartition
from comms.platform.kafka.reading import read_to_the_end
from schemas.topics import LARGEST_RECORD, TOPICS, Topic

ADMIN_SECONDS = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Broker:
    """A Kafka cluster as the settings describe it: librdkafka properties for every client.

    Args:
        properties: `bootstrap.servers` and whatever else; a SASL password may be among them.
    """

    properties: Mapping[str, str] = field(repr=False)

    def producer(self, *, idempotent: bool = False, threaded: bool = True) -> EventProducer:
        """A producer; `idempotent` where the order of a partition must survive retries, not
        `threaded` where its owner calls `serve`."""
        return EventProducer(self.properties, idempotent=idempotent, threaded=threaded)

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        *,
        rebalance: Rebalance | None = None,
        positions: Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int]] | None = None,
    ) -> TopicConsumer:
        """A member of `group` reading `topics`."""
        return TopicConsumer(
            self.properties,
            group=group,
            topics=topics,
            rebalance=rebalance,
            identify=self.topic_ids,
            dissolve_if_stuck=self.dissolve_if_stuck,
            positions=positions,
        )

    def apply_topics(self, topics: Iterable[Topic] = TOPICS) -> list[str]:
        """Create the topics that do not exist; returns their names.

        Raises:
            KafkaUnavailableError, KafkaRefusedError: a topic could not be created.
        """
        missing = [topic for topic in topics if topic.name not in self.topic_names()]
        if not missing:
            return []
        futures = self._admin.create_topics([_new_topic(topic) for topic in missing])
        for future in futures.values():
            self._result_of(future, unless=KafkaError.TOPIC_ALREADY_EXISTS)
        return [topic.name for topic in missing]

    def topic_names(self, seconds: float = 5.0) -> Mapping[str, int]:
        """The cluster's topics and their partition counts.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`.
            KafkaRefusedError: the cluster does not let us in.
        """
        try:
            found = self._admin.list_topics(timeout=seconds).topics
        except KafkaException as error:
            raise self._fault_of(error.args[0]) from error
        self._admission.given()
        return {name: len(topic.partitions) for name, topic in found.items()}

    def topic_ids(self, names: Iterable[str], seconds: float = 2.0) -> dict[str, str]:
        """The id that the cluster gave each topic when it was created: another id, another log.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`, which may be waited for
                three times, or a topic does not exist.
            KafkaRefusedError: the cluster does not let us in, or not to that topic.
        """
        asked = list(names)
        try:
            return self._described_ids(asked, seconds)
        except KafkaUnavailableError:
            # The client waits for the node that it took for the controller, even for one that is
            # gone, until it is told of another.
            self.topic_names(seconds)
            return self._described_ids(asked, seconds)

    def _described_ids(self, names: list[str], seconds: float) -> dict[str, str]:
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=seconds)
        found = {}
        for name, future in futures.items():
            described = self._result_of(future, seconds=2 * seconds)
            found[name] = str(described.topic_id) if described is not None else ""
        return found

    def records(self, topic: str) -> Iterator[Record]:
        """Every record of a topic, read to its end without a group.

        Raises:
            KafkaUnavailableError: no broker answers, or there is no such topic.
            KafkaRefusedError: it may not be read.
        """
        partitions = self.topic_names().get(topic)
        if partitions is None:
            raise KafkaUnavailableError(f"there is no topic {topic} (comms topics apply)")
        return read_to_the_end(self.properties, topic, partitions)

    def dissolve_if_stuck(self, group: str, seconds: float = 2.0) -> bool:
        """Delete a group that the cluster can say nothing of, although it has members; whether it
        did. The embedded broker's may wait for ever for a leader that left while it was formed, and
        begins anew when it is deleted. A group that works has a state, and is left alone.

        Raises:
            KafkaUnavailableError: the cluster does not say, or did not do it.
        """
        asked = self._admin.describe_consumer_groups([group], request_timeout=seconds)
        described = self._result_of(asked[group], seconds=2 * seconds)
        if described is None or described.state is not ConsumerGroupState.UNKNOWN:
            return False
        deleting = self._admin.delete_consumer_groups([group], request_timeout=seconds)
        self._result_of(deleting[group], seconds=2 * seconds)
        return True

    def wait_until_reachable(self, seconds: float) -> None:
        """Wait for a broker to answer.

        Raises:
            KafkaUnavailableError: none did within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.topic_names(min(2.0, seconds))
            except KafkaUnavailableError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    @cached_property
    def _admin(self) -> AdminClient:
        """One for all calls: it costs threads and connections, and the futures of one that nobody
        holds any more never end."""
        return AdminClient(
            {**self.properties, "error_cb": self._admission.heard},  # type: ignore[dict-item]
            logger=CLIENT_LOG,
        )

    @cached_property
    def _admission(self) -> Admission:
        return Admission()

    def _result_of(
        self, future: "Future[T]", *, unless: int | None = None, seconds: float = ADMIN_SECONDS
    ) -> T | None:
        """What the cluster answered; None where it said `unless`.

        Raises:
            KafkaFault: it said something else, or nothing within `seconds`.
        """
        try:
            found = future.result(seconds)
        except TimeoutError as error:
            raise KafkaUnavailableError("the cluster did not answer in time") from error
        except KafkaException as error:
            if error.args[0].code() == unless:
                return None
            raise self._fault_of(error.args[0]) from error
        self._admission.given()
        return found

    def _fault_of(self, error: KafkaError) -> KafkaFault:
        """Why the cluster did not answer, where it has said so aside."""
        self._admin.poll(0)
        return self._admission.denied() or fault_of(error)


def _new_topic(topic: Topic) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        config={
            "retention.ms": str(topic.retention_ms),
            "max.message.bytes": str(LARGEST_RECORD),
        },
    )
