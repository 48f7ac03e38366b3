"""A message's way through the system on Apache Kafka, and the records in Kafka's log files."""

from pathlib import Path
from uuid import uuid4

import pytest

from comms.platform.kafka import Broker
from schemas.topics import TOPICS
from schemas.vocabulary import Status
from tests.apache.server import ApacheKafka
from tests.apache.walk import enqueue, relaying, undeclared_calls
from tests.consumers.harness import channel, listener, settings_for, simulator, sms
from tests.waiting import wait_for

pytestmark = pytest.mark.apache

_CODECS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


def test_messages_go_from_the_outbox_to_the_provider(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    messages = [sms(to=f"+1202556{n:04}") for n in range(200)]
    with (
        simulator(settings) as provider,
        listener(broker) as heard,
        channel(settings),
        relaying(broker, settings) as conditions,
    ):
        enqueue(settings, messages)
        for message in messages:
            heard.wait_for(message.id, Status.SENT)
        assert conditions.problems() == []
        assert undeclared_calls(heard, provider, messages) == {}
    assert heard.statuses(messages[0].id)[0][0] is Status.PENDING


def test_topics_are_applied_once(broker: Broker) -> None:
    assert broker.apply_topics() == []
    partitions = broker.list_topics()
    assert {topic.name: partitions.get(topic.name) for topic in TOPICS} == {
        topic.name: topic.partitions for topic in TOPICS
    }


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_records_are_compressed_as_configured(
    kafka: ApacheKafka, broker: Broker, codec: str | None
) -> None:
    """The default is lz4. The consumer reads either codec."""
    settings = {} if codec is None else {"compression.type": codec}
    expected = codec or "lz4"
    key = uuid4().hex
    value = (key * 500).encode()
    producer = Broker({**broker.properties, **settings}).producer(idempotent=True)
    producer.publish("comms.push", key=key, value=value)
    assert producer.flush(20) == 0
    producer.close()
    consumer = broker.consumer(f"test-{uuid4()}", ["comms.push"])
    positions: list[tuple[int, int]] = []

    def is_read() -> bool:
        records = [r for r in consumer.poll(100, 0.1) if r.value == value]
        positions.extend((record.partition, record.offset) for record in records)
        return bool(positions)

    wait_for(is_read, what="the record")
    consumer.close()
    assert _codec_on_disk(kafka.logs, *positions[0]) == expected


def _codec_on_disk(logs: Path, partition: int, offset: int) -> str:
    """Read from the batch's attributes how the batch that begins with `offset` is compressed."""
    data = (logs / f"comms.push-{partition}" / f"{0:020}.log").read_bytes()
    at = 0
    while int.from_bytes(data[at : at + 8]) != offset:
        at += 12 + int.from_bytes(data[at + 8 : at + 12])
    return _CODECS[int.from_bytes(data[at + 21 : at + 23]) & 7]
