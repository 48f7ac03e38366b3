"""Removes messages from the queue once a consumer has claimed them.

The relay runs an `Acknowledger` on a thread of its own. It reads `comms.status`. The first event
of a message with a status other than `pending` proves that the message is in the consumers' ledger.
Its row in the queue is then no longer needed to protect it from being lost.
"""

from collections.abc import Sequence
from threading import Event
from typing import Any

import psycopg
import structlog

from comms.platform.database import DatabaseError, translate_errors
from comms.platform.kafka import Broker, KafkaFault, Record, TopicConsumer, TopicPartition
from producer.health_state import HealthState
from producer.queue import delete_claimed
from schemas.codec import Codec
from schemas.errors import ContractError
from schemas.events import StatusEvent
from schemas.topics import STATUS
from schemas.vocabulary import Status

log = structlog.get_logger(__name__)

GROUP = "comms-outbox"
BATCH = 1000
RETRY_SECONDS = 1.0


class Acknowledger:
    """Deletes the rows of claimed messages, then commits the offsets of the events.

    After a crash it reads events again. Their rows are already deleted, so nothing happens.
    """

    def __init__(
        self, broker: Broker, database_url: str, codec: Codec, health: HealthState
    ) -> None:
        self._broker = broker
        self._database_url = database_url
        self._codec = codec
        self._health = health

    def run(self, stop: Event, active: Event) -> None:
        """Read the topic while `active` is set, until `stop` is set."""
        while not stop.is_set():
            if not active.wait(0.2):
                continue
            try:
                self._run_consumer(stop, active)
            except KafkaFault as fault:
                self._health.set("status topic", str(fault))
                log.warning("acknowledger.kafka_unavailable", problem=str(fault))
                stop.wait(RETRY_SECONDS)
            except DatabaseError as error:
                self._health.set("acknowledging", str(error))
                log.warning("acknowledger.database_unavailable", problem=str(error))
                stop.wait(RETRY_SECONDS)

    def _run_consumer(self, stop: Event, active: Event) -> None:
        """Read with one consumer and one connection; uncommitted records are read again later."""
        with translate_errors(), _connect(self._database_url) as connection:
            consumer = self._broker.consumer(GROUP, [STATUS])
            try:
                while active.is_set() and not stop.is_set():
                    self.process_batch(consumer, connection)
                    self._health.clear("status topic", "acknowledging")
            finally:
                consumer.close()

    def process_batch(self, consumer: TopicConsumer, connection: psycopg.Connection[Any]) -> int:
        """Process one batch of events, and return the number of rows deleted from the queue."""
        records = consumer.poll(BATCH, 0.2)
        deleted = 0
        if ids := [event.message_id for event in self._decode(records) if _proves_claim(event)]:
            deleted = delete_claimed(connection, ids)
        if records:
            consumer.commit(_next_offsets(records))
        return deleted

    def _decode(self, records: Sequence[Record]) -> list[StatusEvent]:
        events = []
        for record in records:
            try:
                events.append(self._codec.decode(record.value, StatusEvent))
            except ContractError as error:
                log.warning(
                    "acknowledger.undecodable",
                    partition=record.partition,
                    offset=record.offset,
                    problem=type(error).__name__,
                )
        return events


def _proves_claim(event: StatusEvent) -> bool:
    return event.status is not Status.PENDING


def _next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    return {record.topic_partition: record.offset + 1 for record in records}


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, application_name="comms-acknowledger")
