"""The one seam where librdkafka's errors become ours.

KafkaFault
├── KafkaUnavailableError   retry: no broker answers, or it cannot do it now
└── KafkaRefusedError       do not retry: the record or the client is not acceptable
"""

import logging

from confluent_kafka import KafkaError

CLIENT_LOG = logging.getLogger("kafka.client")  # librdkafka's own lines


class KafkaFault(Exception):  # noqa: N818 - the base; what is caught are the two below
    """Kafka did not do what was asked."""


class KafkaUnavailableError(KafkaFault):
    """No broker answers, or it cannot do it now; the same call may succeed later."""


class KafkaRefusedError(KafkaFault):
    """The broker will not take this, now or later (too large, not authorised)."""


_REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._INVALID_ARG,
    }
)


def fault_of(error: KafkaError) -> KafkaFault:
    """Our error for one of librdkafka's."""
    kind = KafkaRefusedError if error.code() in _REFUSALS else KafkaUnavailableError
    return kind(f"{error.name()}: {error.str()}")
