"""Sends status records that cannot be decoded or stored to the dead letters, with their origin.

`audit.ingest` calls `send_to_dead_letters` and goes on only when the broker has the record, so that
no record is skipped without a trace.
"""

import structlog

from comms.platform import dead_letters, metrics
from comms.platform.kafka import EventProducer, Record
from schemas.vocabulary import Reason

log = structlog.get_logger(__name__)

CHANNEL = "status"


def send_to_dead_letters(producer: EventProducer, record: Record, *, detail: str) -> None:
    """Send a record to the dead letters, and wait until the broker has it.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: the broker does not have it; read it again.
    """
    dead_letters.send_to_dead_letters(
        producer, record, channel=CHANNEL, reason=Reason.UNDECODABLE, detail=detail
    )
    metrics.dead_letters_total.labels(CHANNEL).inc()
    log.warning(
        "audit.dead_letter", partition=record.partition, offset=record.offset, problem=detail
    )
