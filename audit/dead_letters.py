"""Status records that cannot be decoded or stored: put aside, with where they came from.

The ingest service calls `send_to_dead_letters` and goes on only when the broker has the record, so
that nothing is passed over without a trace.
"""

import structlog

from comms.platform import dead_letters, metrics
from comms.platform.kafka import EventProducer, Record
from schemas.vocabulary import Reason

log = structlog.get_logger(__name__)

CHANNEL = "status"


def send_to_dead_letters(producer: EventProducer, record: Record, *, detail: str) -> None:
    """Put a record among the dead letters.

    Raises:
        KafkaUnavailableError, KafkaRefusedError: it is not there; it must be read again.
    """
    dead_letters.send_to_dead_letters(
        producer, record, channel=CHANNEL, reason=Reason.UNDECODABLE, detail=detail
    )
    metrics.dead_letters_total.labels(CHANNEL).inc()
    log.warning(
        "audit.dead_letter", partition=record.partition, offset=record.offset, problem=detail
    )
