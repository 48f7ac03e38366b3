"""A cluster as the settings describe it: where every client comes from, and its topics."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from comms.kafka.consuming import Rebalance, Record, TopicConsumer
from comms.kafka.faults import CLIENT_LOG, KafkaUnavailableError, fault_of
from comms.kafka.producing import EventProducer, Place
from comms.kafka.reading import read_to_the_end
from schemas.topics import LARGEST_RECORD, TOPICS, Topic


@dataclass(frozen=True, slots=True)
class Broker:
    """A Kafka cluster as the settings describe it: librdkafka properties for every client."""

    properties: Mapping[str, str]

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
        positions: Callable[[Sequence[Place]], Mapping[Place, int]] | None = None,
    ) -> TopicConsumer:
        """A member of `group` reading `topics`."""
        return TopicConsumer(
            self.properties, group=group, topics=topics, rebalance=rebalance, positions=positions
        )

    def apply_topics(self, topics: Iterable[Topic] = TOPICS) -> list[str]:
        """Create the topics that do not exist; returns their names.

        Raises:
            KafkaUnavailableError, KafkaRefusedError: a topic could not be created.
        """
        admin = self._admin()
        missing = [topic for topic in topics if topic.name not in self.topic_names()]
        if not missing:
            return []
        futures = admin.create_topics([_new_topic(topic) for topic in missing])
        for future in futures.values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise fault_of(error.args[0]) from error
        return [topic.name for topic in missing]

    def topic_names(self, seconds: float = 5.0) -> Mapping[str, int]:
        """The cluster's topics and their partition counts.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`.
        """
        try:
            found = self._admin().list_topics(timeout=seconds).topics
        except KafkaException as error:
            raise fault_of(error.args[0]) from error
        return {name: len(topic.partitions) for name, topic in found.items()}

    def log_ends(self, places: Iterable[Place], seconds: float = 2.0) -> dict[Place, int]:
        """The next offset of each partition; without those that do not exist.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`.
        """
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]
        if not asked:
            return {}
        admin = self._admin()  # kept until its futures end: without it they never do
        try:
            found = admin.list_offsets(asked, request_timeout=seconds)
        except KafkaException as error:
            raise fault_of(error.args[0]) from error
        ends: dict[Place, int] = {}
        for partition, future in found.items():
            try:
                ends[partition.topic, partition.partition] = future.result().offset
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise fault_of(error.args[0]) from error
        return ends

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

    def _admin(self) -> AdminClient:
        return AdminClient(dict(self.properties), logger=CLIENT_LOG)


def _new_topic(topic: Topic) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        config={
            "retention.ms": str(topic.retention_ms),
            "max.message.bytes": str(LARGEST_RECORD),
        },
    )
