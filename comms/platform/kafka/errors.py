"""The one seam where librdkafka's errors become ours.

KafkaFault
├── KafkaUnavailableError   retry: no broker answers, or it cannot do it now
│   └── KafkaForgotError    the broker does not know what it acknowledged: publish that again too
└── KafkaRefusedError       do not retry: the record or the client is not acceptable
"""

import logging

from confluent_kafka import KafkaError

CLIENT_LOG = logging.getLogger("kafka.client")  # librdkafka's own lines


class KafkaFault(Exception):  # noqa: N818 - the base; what is caught are those below
    """Kafka did not do what was asked."""


class KafkaUnavailableError(KafkaFault):
    """No broker answers, or it cannot do it now; the same call may succeed later."""


class KafkaDataLossError(KafkaUnavailableError):
    """The broker does not remember this producer: it lost what it held, or a part of it."""


class KafkaRefusedError(KafkaFault):
    """The broker will not take this, now or later (too large, not authorised)."""


_REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_SESSION_TIMEOUT,  # outside of what the cluster's own settings allow
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
    }
)

# An idempotent producer numbers its records, and a broker that lost some sees the gap.
_FORGOT = frozenset(
    {
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError._FATAL,
    }
)


def fault_of(error: KafkaError) -> KafkaFault:
    """Our error for one of librdkafka's."""
    kind: type[KafkaFault] = KafkaUnavailableError
    if error.code() in _REFUSALS:
        kind = KafkaRefusedError
    elif error.fatal() or error.code() in _FORGOT:
        kind = KafkaDataLossError
    return kind(f"{error.name()}: {error.str()}")


class Admission:
    """Whether the cluster lets a client in. librdkafka says that aside (`heard` is its `error_cb`),
    and what was asked only takes too long, as if no broker were there."""

    def __init__(self) -> None:
        self._denied: KafkaError | None = None

    def heard(self, error: KafkaError) -> None:
        """Something is wrong with the client as a whole."""
        CLIENT_LOG.debug("%s", error.str())
        if error.code() == KafkaError._AUTHENTICATION:
            self._denied = error

    def given(self) -> None:
        """The cluster has answered."""
        self._denied = None

    def denied(self) -> KafkaFault | None:
        """Our error where it does not let us in."""
        return None if self._denied is None else fault_of(self._denied)
