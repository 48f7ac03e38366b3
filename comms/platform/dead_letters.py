"""Dead letters: records that no consumer could process, put aside with where they came from.

Channels and the audit service `send_to_dead_letters` a record and go on; `comms dead-letters` reads
what was buried and replays it, unchanged, into the topic it came from. A record that was replayed
says so in a header, and keeps it if it is buried again: only the newest letter of such a line is
replayed by a filter, or each `--all` would double what cannot be mended.
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
    """A letter as it stands in the topic; all words are its headers' own.

    Args:
        id: partition and offset in `comms.dead-letters`, such as `0:17`; at: when it was buried.
        channel: whose record it is; `status` for a status event.
        origin_topic, origin_partition, origin_offset: where it came from, as text.
        replayed_from: the letter that was replayed and became this one.
        size: bytes of its value.
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
    def may_return(self) -> bool:
        """Whether it comes from a topic of ours, and so can be put back there."""
        return self.origin_topic in _ORIGINS


def send_to_dead_letters(
    producer: EventProducer, record: Record, *, channel: str, reason: str, detail: str
) -> None:
    """Put a record among the dead letters and wait until the broker has it.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: it is not there; it must be read again.
    """
    headers = {
        CHANNEL: channel.encode(),
        REASON: reason.encode(),
        DETAIL: detail.encode(),
        ORIGIN_TOPIC: record.topic.encode(),
        ORIGIN_PARTITION: str(record.partition).encode(),
        ORIGIN_OFFSET: str(record.offset).encode(),
    }
    if (former := record.headers.get(REPLAYED_FROM)) is not None:
        headers[REPLAYED_FROM] = former
    producer.publish_and_wait(
        DEAD_LETTERS, key=record.key, value=record.value, headers=headers, seconds=ACK_SECONDS
    )


def letters(broker: Broker) -> Iterator[tuple[DeadLetter, Record]]:
    """Every dead letter with its record, oldest first.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: they cannot be read.
    """
    for record in broker.records(DEAD_LETTERS):
        yield _letter(record), record


def newest_of_each_line(found: Collection[DeadLetter]) -> list[DeadLetter]:
    """Those that were not replayed and buried again: of such a line, the last letter speaks."""
    superseded = {letter.replayed_from for letter in found}
    return [letter for letter in found if letter.id not in superseded]


def replay(broker: Broker, wanted: Collection[str], *, on_acknowledged: Callable[[], None]) -> int:
    """Publish letters, key and value unchanged, into the topics they came from.

    Args:
        wanted: their ids; each must be of a letter that `may_return`.
        on_acknowledged: called for each that the broker has.

    Returns:
        How many the broker has.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: not all of them; repeating it is harmless.
    """
    producer = broker.producer(threaded=False)
    faults: list[KafkaFault] = []
    count = 0

    def on_ack(fault: KafkaFault | None) -> None:
        nonlocal count
        if fault is not None:
            faults.append(fault)
            return
        count += 1
        on_acknowledged()

    try:
        left = set(wanted)
        for letter, record in letters(broker):
            if letter.id not in left or not letter.may_return:
                continue
            left.discard(letter.id)
            producer.publish(
                letter.origin_topic,
                key=record.key,
                value=record.value,
                headers={REPLAYED_FROM: letter.id.encode()},
                on_ack=on_ack,
            )
            producer.serve()
            if not left:
                break
        unheard = producer.flush(ACK_SECONDS)
    finally:
        producer.close(seconds=0)
    if faults:
        raise faults[0]
    if unheard:
        raise KafkaUnavailableError(f"{unheard} were not acknowledged; replay them again")
    return count


def _letter(record: Record) -> DeadLetter:
    def said(name: str) -> str:
        return record.headers.get(name, b"").decode(errors="replace")

    return DeadLetter(
        id=f"{record.partition}:{record.offset}",
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        channel=said(CHANNEL),
        reason=said(REASON),
        detail=said(DETAIL),
        origin_topic=said(ORIGIN_TOPIC),
        origin_partition=said(ORIGIN_PARTITION),
        origin_offset=said(ORIGIN_OFFSET),
        replayed_from=said(REPLAYED_FROM) or None,
        size=len(record.value),
    )
