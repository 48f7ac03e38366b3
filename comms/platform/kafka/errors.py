"""The errors of Kafka, and the one place that makes them of librdkafka's errors.

Every module of this package calls `to_fault`, so no other package sees a `KafkaException`.

KafkaFault
├── KafkaUnavailableError   retry: no broker answers, or it cannot do this now
│   └── KafkaDataLossError  the broker lost what it acknowledged: publish that again too
└── KafkaRefusedError       do not retry: the broker does not accept the record or the client
"""

import logging

from confluent_kafka import KafkaError

CLIENT_LOG = logging.getLogger("kafka.client")  # the log lines of librdkafka


class KafkaFault(Exception):  # noqa: N818 - the base class; callers catch the classes below
    """Kafka did not carry out an operation."""


class KafkaUnavailableError(KafkaFault):
    """No broker answers, or it cannot do this now; the same call may succeed later."""


class KafkaDataLossError(KafkaUnavailableError):
    """The broker does not know this producer any more: it lost some or all of its records."""


class KafkaRefusedError(KafkaFault):
    """The broker never accepts this, for example because it is too large or not authorised."""


_REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_SESSION_TIMEOUT,  # outside the limits that the cluster configures
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
    }
)

# An idempotent producer numbers its records. A broker that lost some of them sees the gap.
_DATA_LOSS = frozenset(
    {
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError._FATAL,
    }
)


def to_fault(error: KafkaError) -> KafkaFault:
    """Return our error for an error of librdkafka."""
    fault_class: type[KafkaFault] = KafkaUnavailableError
    if error.code() in _REFUSALS:
        fault_class = KafkaRefusedError
    elif error.fatal() or error.code() in _DATA_LOSS:
        fault_class = KafkaDataLossError
    return fault_class(f"{error.name()}: {error.str()}")


class LoginState:
    """Whether the cluster refused the credentials of a client.

    librdkafka reports this through a callback only. The call itself just times out, as if no
    broker were there.
    """

    def __init__(self) -> None:
        self._refusal: KafkaError | None = None

    def on_error(self, error: KafkaError) -> None:
        """Note an error of the client as a whole. This is librdkafka's `error_cb`."""
        CLIENT_LOG.debug("%s", error.str())
        if error.code() == KafkaError._AUTHENTICATION:
            self._refusal = error

    def mark_accepted(self) -> None:
        """Forget an earlier refusal, because the cluster has answered."""
        self._refusal = None

    def refusal(self) -> KafkaFault | None:
        """Return the error of the refused credentials, or None if they were not refused."""
        return None if self._refusal is None else to_fault(self._refusal)
