"""A Kafka cluster: the source of every client, and the administration of topics and groups.

Services make one `Broker` of their settings. They get producers and consumers from it, and ask it
about topics. The command line and `comms up` create topics with it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from comms.platform.kafka.consuming import Rebalance, TopicConsumer
from comms.platform.kafka.errors import (
    CLIENT_LOG,
    KafkaFault,
    KafkaUnavailableError,
    LoginState,
    to_fault,
)
from comms.platform.kafka.producing import EventProducer, TopicPartition
from comms.platform.kafka.reading import read_all
from comms.platform.kafka.records import Record
from schemas.topics import LARGEST_RECORD, TOPICS, Topic

ADMIN_SECONDS = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Broker:
    """A Kafka cluster, described by the librdkafka properties that every client gets.

    Args:
        properties: `bootstrap.servers` and any others. They may contain a SASL password.
    """

    properties: Mapping[str, str] = field(repr=False)

    def producer(self, *, idempotent: bool = False, threaded: bool = True) -> EventProducer:
        """Create a producer.

        Args:
            idempotent: keep the order of a partition across retries.
            threaded: report acknowledgements on a thread of the producer; otherwise the owner
                calls `EventProducer.poll`.
        """
        return EventProducer(self.properties, idempotent=idempotent, threaded=threaded)

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        *,
        rebalance: Rebalance | None = None,
        positions: Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int]] | None = None,
    ) -> TopicConsumer:
        """Create a member of `group` that reads `topics`; `TopicConsumer` explains the rest."""
        return TopicConsumer(
            self.properties,
            group=group,
            topics=topics,
            rebalance=rebalance,
            read_topic_ids=self.read_topic_ids,
            delete_if_stuck=self.delete_if_stuck,
            positions=positions,
        )

    def apply_topics(self, topics: Iterable[Topic] = TOPICS) -> list[str]:
        """Create the topics that do not exist, and return their names.

        Raises:
            KafkaUnavailableError, KafkaRefusedError: a topic could not be created.
        """
        existing = self.list_topics()
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return []
        futures = self._admin.create_topics([_new_topic(topic) for topic in missing])
        for future in futures.values():
            self._result_of(future, unless=KafkaError.TOPIC_ALREADY_EXISTS)
        return [topic.name for topic in missing]

    def list_topics(self, seconds: float = 5.0) -> Mapping[str, int]:
        """Return the names of the cluster's topics with their numbers of partitions.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`.
            KafkaRefusedError: the cluster refused our credentials.
        """
        try:
            topics = self._admin.list_topics(timeout=seconds).topics
        except KafkaException as error:
            raise self._fault_of(error.args[0]) from error
        self._login.mark_accepted()
        return {name: len(topic.partitions) for name, topic in topics.items()}

    def read_topic_ids(self, names: Iterable[str], seconds: float = 2.0) -> dict[str, str]:
        """Return the id of each topic. A topic that is created again has a new log and a new id.

        This may take three times `seconds`.

        Raises:
            KafkaUnavailableError: no broker answered in time, or a topic does not exist.
            KafkaRefusedError: the cluster refused our credentials, or access to a topic.
        """
        topics = list(names)
        try:
            return self._describe_ids(topics, seconds)
        except KafkaUnavailableError:
            # The client keeps waiting for the node that was the controller, even if that node is
            # gone. Reading the metadata makes it learn of the new controller.
            self.list_topics(seconds)
            return self._describe_ids(topics, seconds)

    def _describe_ids(self, names: list[str], seconds: float) -> dict[str, str]:
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=seconds)
        ids = {}
        for name, future in futures.items():
            description = self._result_of(future, seconds=2 * seconds)
            ids[name] = str(description.topic_id) if description is not None else ""
        return ids

    def records(self, topic: str) -> Iterator[Record]:
        """Return every record of a topic, read to its end without a consumer group.

        Raises:
            KafkaUnavailableError: no broker answers, or the topic does not exist.
            KafkaRefusedError: this client may not read the topic.
        """
        partitions = self.list_topics().get(topic)
        if partitions is None:
            raise KafkaUnavailableError(f"there is no topic {topic} (comms topics apply)")
        return read_all(self.properties, topic, partitions)

    def delete_if_stuck(self, group: str, seconds: float = 2.0) -> bool:
        """Delete a group whose state the cluster does not know although it has members.

        On the embedded broker, a group may wait for ever for a leader that left during a rebalance.
        When it is deleted, its members form it again. A group that works has a state and is not
        deleted.

        Returns:
            Whether the group was deleted.

        Raises:
            KafkaUnavailableError: the cluster did not describe or did not delete the group.
        """
        descriptions = self._admin.describe_consumer_groups([group], request_timeout=seconds)
        description = self._result_of(descriptions[group], seconds=2 * seconds)
        if description is None or description.state is not ConsumerGroupState.UNKNOWN:
            return False
        deletions = self._admin.delete_consumer_groups([group], request_timeout=seconds)
        self._result_of(deletions[group], seconds=2 * seconds)
        return True

    def wait_until_reachable(self, seconds: float) -> None:
        """Wait until a broker answers.

        Raises:
            KafkaUnavailableError: no broker answered within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.list_topics(min(2.0, seconds))
            except KafkaUnavailableError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    @cached_property
    def _admin(self) -> AdminClient:
        """The admin client for all calls.

        A client costs threads and connections. The futures of a client that is garbage-collected
        never complete.
        """
        return AdminClient(
            {**self.properties, "error_cb": self._login.on_error},  # type: ignore[dict-item]
            logger=CLIENT_LOG,
        )

    @cached_property
    def _login(self) -> LoginState:
        return LoginState()

    def _result_of(
        self, future: "Future[T]", *, unless: int | None = None, seconds: float = ADMIN_SECONDS
    ) -> T | None:
        """Wait for the answer of the cluster.

        Returns:
            The answer; None if it is the error code `unless`.

        Raises:
            KafkaFault: the answer is another error, or there is none within `seconds`.
        """
        try:
            result = future.result(seconds)
        except TimeoutError as error:
            raise KafkaUnavailableError("the cluster did not answer in time") from error
        except KafkaException as error:
            if error.args[0].code() == unless:
                return None
            raise self._fault_of(error.args[0]) from error
        self._login.mark_accepted()
        return result

    def _fault_of(self, error: KafkaError) -> KafkaFault:
        """Return the refusal of our credentials if there was one, else our error for `error`."""
        self._admin.poll(0)
        return self._login.refusal() or to_fault(error)


def _new_topic(topic: Topic) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        config={
            "retention.ms": str(topic.retention_ms),
            "max.message.bytes": str(LARGEST_RECORD),
        },
    )
