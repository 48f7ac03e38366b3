"""The brokers that tests can start, and what every one of them can do.

`tests.engines` and `tests.chaos` create their brokers here, so both run on the embedded broker and
on Apache Kafka.
"""

from enum import StrEnum
from pathlib import Path
from typing import Protocol, assert_never

from comms.stack.broker import EmbeddedBroker
from tests.apache.server import ApacheKafka


class BrokerKind(StrEnum):
    """The broker programs that tests can start."""

    EMBEDDED = "embedded"
    MAVEN = "maven"  # Apache Kafka, with the jars that Maven fetches


class Engine(Protocol):
    """A broker that can be started, stopped and started again on the same port."""

    @property
    def bootstrap_servers(self) -> str: ...

    @property
    def pid(self) -> int: ...

    def start(self) -> None: ...

    def stop(self, *, grace: float = ...) -> None: ...

    def answers(self) -> bool: ...


def engine(kind: BrokerKind, data_dir: Path) -> Engine:
    """Create a broker with its own data folder. It is not started."""
    match kind:
        case BrokerKind.EMBEDDED:
            return EmbeddedBroker(data_dir)
        case BrokerKind.MAVEN:
            return ApacheKafka(data_dir)
        case _:
            assert_never(kind)


def restart_empty(broker: Engine) -> None:
    """Start a stopped broker without its former data. The embedded broker never keeps any."""
    if isinstance(broker, ApacheKafka):
        broker.wipe()
    broker.start()
