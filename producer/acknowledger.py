"""What consumers have claimed leaves the queue.

The relay runs one of these on a thread of its own. It follows `comms.status`: the first event that
says more than `pending` proves that a message's fate is in the consumers' ledger, so its row here
is no longer what saves it from being lost.
"""

from collections.abc import Sequence
from threading import Event
from typing import Any

import psycopg
import structlog

from comms.platform.database import DatabaseError, translated
from comms.platform.kafka import Broker, KafkaFault, Record, TopicConsumer, TopicPartition
from producer.health_state import HealthState
from producer.queue import claimed
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
    """Deletes claimed rows, then commits the offsets; told again after a crash, deletes nothing."""

    def __init__(
        self, broker: Broker, database_url: str, codec: Codec, conditions: HealthState
    ) -> None:
        self._broker = broker
        self._database_url = database_url
        self._codec = codec
        self._conditions = conditions

    def run(self, stop: Event, active: Event) -> None:
        """Follow the topic while `active` is set, until `stop` is."""
        while not stop.is_set():
            if not active.wait(0.2):
                continue
            try:
                self._follow(stop, active)
            except KafkaFault as fault:
                self._conditions.set("status topic", str(fault))
                log.warning("acknowledger.kafka", problem=str(fault))
                stop.wait(RETRY_SECONDS)
            except DatabaseError as error:
                self._conditions.set("acknowledging", str(error))
                log.warning("acknowledger.database", problem=str(error))
                stop.wait(RETRY_SECONDS)

    def _follow(self, stop: Event, active: Event) -> None:
        """With one consumer and one connection; what was read and not committed is read again."""
        with translated(), _connect(self._database_url) as connection:
            consumer = self._broker.consumer(GROUP, [STATUS])
            try:
                while active.is_set() and not stop.is_set():
                    self.take(consumer, connection)
                    self._conditions.clear("status topic", "acknowledging")
            finally:
                consumer.close()

    def take(self, consumer: TopicConsumer, connection: psycopg.Connection[Any]) -> int:
        """One batch of events; the number of rows that left the queue."""
        records = consumer.poll(BATCH, 0.2)
        gone = 0
        if ids := [event.message_id for event in self._events(records) if _proves_claim(event)]:
            gone = claimed(connection, ids)
        if records:
            consumer.commit(_next_offsets(records))
        return gone

    def _events(self, records: Sequence[Record]) -> list[StatusEvent]:
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
    return {record.place: record.offset + 1 for record in records}


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, application_name="comms-acknowledger")
