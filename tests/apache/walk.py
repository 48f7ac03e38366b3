"""Steps of a message from the outbox to the provider, on the broker that a test passes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from uuid import UUID

import psycopg

from comms.platform.kafka import Broker
from comms.platform.settings import Settings
from producer.health_state import HealthState
from producer.outbox import Outbox
from producer.relay import relay
from producer.relay_session import RelayIntervals
from schemas.codec import Codec
from schemas.messages import Message
from schemas.vocabulary import Reason, Status
from tests.consumers.harness import Listener, SimulatorClient

_QUICK = RelayIntervals(schedule=0.05, shards=0.1, sweep=0.5, settle=0.5, measure=0.5, verify=0.5)


@contextmanager
def relaying(broker: Broker, settings: Settings) -> Iterator[HealthState]:
    """Run a relay on a thread inside the `with` block."""
    stop, health = Event(), HealthState()
    thread = Thread(
        target=relay,
        args=(broker, settings.need_database(), Codec()),
        kwargs={"health": health, "stop": stop, "intervals": _QUICK},
    )
    thread.start()
    try:
        yield health
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def enqueue(settings: Settings, messages: Sequence[Message]) -> None:
    """Write messages to the outbox, as a workflow does."""
    with psycopg.connect(settings.need_database(), autocommit=True) as connection:
        Outbox().enqueue(connection, messages)


def undeclared_calls(
    heard: Listener, provider: SimulatorClient, messages: Sequence[Message]
) -> dict[UUID, int]:
    """Count the repeated calls per message that no event declares. There should be none."""
    undeclared = {}
    for message in messages:
        declared = sum(
            status is Status.SENDING and reason is Reason.AMBIGUOUS
            for status, reason in heard.statuses(message.id)
        )
        if extra := provider.calls(message.id) - 1 - declared:
            undeclared[message.id] = extra
    return undeclared
