"""Which program is the broker: what both of them can do, and how one is made.

`tests.engines` and the world that is broken on purpose take theirs from here, so that either runs
on the embedded broker and on the genuine Apache Kafka.
"""

from enum import StrEnum
from pathlib import Path
from typing import Protocol, assert_never

from comms.stack.broker import EmbeddedBroker
from tests.apache.server import ApacheKafka


class Kind(StrEnum):
    """The programs that tests can start by themselves."""

    EMBEDDED = "embedded"
    MAVEN = "maven"  # Apache Kafka, its jars fetched by Maven


class Engine(Protocol):
    """A broker that can be started, stopped and started again on the same port."""

    @property
    def bootstrap_servers(self) -> str: ...

    @property
    def pid(self) -> int: ...

    def start(self) -> None: ...

    def stop(self, *, grace: float = ...) -> None: ...

    def answers(self) -> bool: ...


def engine(kind: Kind, data_dir: Path) -> Engine:
    """A broker of its own for whoever asks, not started."""
    match kind:
        case Kind.EMBEDDED:
            return EmbeddedBroker(data_dir)
        case Kind.MAVEN:
            return ApacheKafka(data_dir)
        case _:
            assert_never(kind)


def restart_empty(broker: Engine) -> None:
    """Start a stopped broker with nothing in it; the embedded one has nothing else to offer."""
    if isinstance(broker, ApacheKafka):
        broker.wipe()
    broker.start()
