"""Status records that cannot be decoded or stored: put aside, with where they came from.

The ingest service calls `bury` and goes on only when the broker has the record, so that nothing is
passed over without a trace. Headers are those that the channels' dead letters carry.
"""

import threading

import structlog

from comms import metrics
from comms.kafka import EventProducer, KafkaFault, KafkaUnavailableError, Record
from schemas.topics import DEAD_LETTERS
from schemas.vocabulary import Reason

log = structlog.get_logger(__name__)

ACK_SECONDS = 30.0


def bury(producer: EventProducer, record: Record, *, detail: str) -> None:
    """Put a record among the dead letters.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: it is not there; it must be read again.
    """
    reported = threading.Event()
    faults: list[KafkaFault | None] = []

    def on_ack(fault: KafkaFault | None) -> None:
        faults.append(fault)
        reported.set()

    producer.publish(
        DEAD_LETTERS,
        key=(record.key or b"").decode(errors="replace"),
        value=record.value,
        headers=_headers(record, detail),
        on_ack=on_ack,
    )
    if not reported.wait(ACK_SECONDS):
        raise KafkaUnavailableError("a dead letter was not acknowledged")
    if faults[0] is not None:
        raise faults[0]
    metrics.dead_letters_total.labels("status").inc()
    log.warning(
        "audit.dead_letter", partition=record.partition, offset=record.offset, problem=detail
    )


def _headers(record: Record, detail: str) -> dict[str, bytes]:
    return {
        "comms-channel": b"status",
        "comms-reason": Reason.UNDECODABLE.encode(),
        "comms-detail": detail.encode(),
        "comms-origin-topic": record.topic.encode(),
        "comms-origin-partition": str(record.partition).encode(),
        "comms-origin-offset": str(record.offset).encode(),
    }
