"""Dead letters: records that no consumer can process, stored with their origin and the reason.

The channels and the audit service call `send_to_dead_letters` and continue with the next record.
`comms dead-letters` reads the dead letters and replays them, unchanged, into their topics.

A replayed record has a header with the id of its dead letter. If it becomes a dead letter again,
the new one keeps that header. Filters replay only the newest of such a series (`drop_superseded`);
otherwise each `--all` would double the records that still cannot be processed.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from comms.platform.kafka import Broker, EventProducer, KafkaFault, KafkaUnavailableError, Record
from schemas.topics import DEAD_LETTERS, TOPICS

CHANNEL, REASON, DETAIL = "comms-channel", "comms-reason", "comms-detail"
ORIGIN_TOPIC, ORIGIN_PARTITION = "comms-origin-topic", "comms-origin-partition"
ORIGIN_OFFSET, REPLAYED_FROM = "comms-origin-offset", "comms-replayed-from"

ACK_SECONDS = 30.0
_ORIGINS = frozenset(topic.name for topic in TOPICS) - {DEAD_LETTERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A dead letter, described by the headers of its record.

    Args:
        id: partition and offset in `comms.dead-letters`, such as `0:17`.
        at: when the record became a dead letter.
        channel: the channel of the record; `status` for a status event.
        origin_topic, origin_partition, origin_offset: where the record came from, as text.
        replayed_from: the id of the earlier dead letter that was replayed, if there is one.
        size: the size of the value in bytes.
    """

    id: str
    at: datetime
    channel: str
    reason: str
    detail: str
    origin_topic: str
    origin_partition: str
    origin_offset: str
    replayed_from: str | None
    size: int

    @property
    def is_replayable(self) -> bool:
        """Whether it comes from one of our topics, so that it can be published there again."""
        return self.origin_topic in _ORIGINS


def send_to_dead_letters(
    producer: EventProducer, record: Record, *, channel: str, reason: str, detail: str
) -> None:
    """Publish a record to the dead letters, and wait until the broker has it.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: the broker does not have it; the caller must read
            the record again.
    """
    headers = {
        CHANNEL: channel.encode(),
        REASON: reason.encode(),
        DETAIL: detail.encode(),
        ORIGIN_TOPIC: record.topic.encode(),
        ORIGIN_PARTITION: str(record.partition).encode(),
        ORIGIN_OFFSET: str(record.offset).encode(),
    }
    if (replayed_from := record.headers.get(REPLAYED_FROM)) is not None:
        headers[REPLAYED_FROM] = replayed_from
    producer.publish_and_wait(
        DEAD_LETTERS, key=record.key, value=record.value, headers=headers, seconds=ACK_SECONDS
    )


def read_all(broker: Broker) -> Iterator[tuple[DeadLetter, Record]]:
    """Yield every dead letter with its record, oldest first.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: the topic cannot be read.
    """
    for record in broker.records(DEAD_LETTERS):
        yield _to_dead_letter(record), record


def drop_superseded(dead_letters: Collection[DeadLetter]) -> list[DeadLetter]:
    """Return the dead letters that were not replayed and became a new dead letter again."""
    superseded = {dead_letter.replayed_from for dead_letter in dead_letters}
    return [dead_letter for dead_letter in dead_letters if dead_letter.id not in superseded]


def replay(broker: Broker, ids: Collection[str], *, on_acknowledged: Callable[[], None]) -> int:
    """Publish dead letters to the topics they came from, with key and value unchanged.

    Args:
        ids: the ids of the dead letters. Those that are not replayable are skipped.
        on_acknowledged: called for each record that the broker has acknowledged.

    Returns:
        The number of acknowledged records.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: some records were not acknowledged. The call may
            be repeated.
    """
    producer = broker.producer(threaded=False)
    faults: list[KafkaFault] = []
    acknowledged = 0

    def on_ack(fault: KafkaFault | None) -> None:
        nonlocal acknowledged
        if fault is not None:
            faults.append(fault)
            return
        acknowledged += 1
        on_acknowledged()

    try:
        for dead_letter, record in _select(broker, ids):
            producer.publish(
                dead_letter.origin_topic,
                key=record.key,
                value=record.value,
                headers={REPLAYED_FROM: dead_letter.id.encode()},
                on_ack=on_ack,
            )
            producer.poll()
        unacknowledged = producer.flush(ACK_SECONDS)
    finally:
        producer.close(seconds=0)
    if faults:
        raise faults[0]
    if unacknowledged:
        raise KafkaUnavailableError(
            f"{unacknowledged} records were not acknowledged; replay them again"
        )
    return acknowledged


def _select(broker: Broker, ids: Collection[str]) -> Iterator[tuple[DeadLetter, Record]]:
    """Yield the replayable dead letters with these ids; stop reading after the last one."""
    missing = set(ids)
    for dead_letter, record in read_all(broker):
        if dead_letter.id in missing and dead_letter.is_replayable:
            missing.discard(dead_letter.id)
            yield dead_letter, record
        if not missing:
            return


def _to_dead_letter(record: Record) -> DeadLetter:
    def header(name: str) -> str:
        return record.headers.get(name, b"").decode(errors="replace")

    return DeadLetter(
        id=f"{record.partition}:{record.offset}",
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        channel=header(CHANNEL),
        reason=header(REASON),
        detail=header(DETAIL),
        origin_topic=header(ORIGIN_TOPIC),
        origin_partition=header(ORIGIN_PARTITION),
        origin_offset=header(ORIGIN_OFFSET),
        replayed_from=header(REPLAYED_FROM) or None,
        size=len(record.value),
    )
