"""The faults, and the order in which a seed injects them.

Each fault breaks something in the world, waits while traffic continues, and repairs it.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.brokers import BrokerKind
from tests.chaos.world import World

CONSUMERS = ("sms-1", "email-1", "push-1", "voice-1")
ZOMBIE_SECONDS = 15.0  # longer than a consumer's session with the broker

Injection = Callable[[World, random.Random], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that can be injected into the world."""

    name: str
    inject: Injection


def faults_on(kafka: BrokerKind) -> Sequence[Fault]:
    """The faults for that broker. Only Apache Kafka still has its data after a restart."""
    return FAULTS if kafka is BrokerKind.EMBEDDED else (*FAULTS, BROKER_RESTARTS_WITH_DATA)


def schedule(
    seed: int,
    *,
    length: int | None,
    only: str | None = None,
    kafka: BrokerKind = BrokerKind.EMBEDDED,
) -> list[Fault]:
    """The faults in the order of the seed. Every fault occurs once before one is repeated.

    Args:
        seed: sets the order.
        length: the number of faults. By default each occurs once.
        only: restricts the schedule to faults with names that begin with this.
        kafka: the broker of the run.
    """
    rng = random.Random(seed)
    available = faults_on(kafka)
    candidates = [fault for fault in available if fault.name.startswith(only or "")]
    length = len(available) if length is None else length
    faults: list[Fault] = []
    while candidates and len(faults) < length:
        faults += rng.sample(candidates, len(candidates))
    return faults[:length]


def _kill(*names: str) -> Injection:
    def inject(world: World, rng: random.Random) -> None:
        name = rng.choice(names)
        world.kill(name)
        time.sleep(rng.uniform(0.2, 3))
        world.begin(name)

    return inject


def _provider_mode(mode: str) -> Injection:
    def inject(world: World, rng: random.Random) -> None:
        world.provider_mode(mode)
        time.sleep(rng.uniform(2, 5))
        world.provider_mode("ok")

    return inject


def _zombie(world: World, rng: random.Random) -> None:
    name = rng.choice(CONSUMERS)
    world.begin(f"{name[:-1]}2")
    time.sleep(3)
    world.freeze(name)
    time.sleep(ZOMBIE_SECONDS)
    world.thaw(name)
    time.sleep(2)
    world.drain(f"{name[:-1]}2")


def _scale(world: World, rng: random.Random) -> None:
    channel = rng.choice(CONSUMERS)[:-1]
    for n in (2, 3, 4):
        world.begin(f"{channel}{n}")
    time.sleep(8)
    world.drain(f"{channel}4")
    world.kill(f"{channel}3")
    time.sleep(4)
    world.drain(f"{channel}2")


def _kill_in_call(world: World, rng: random.Random) -> None:
    """Kill a consumer while the provider has accepted its calls and not responded yet."""
    name = rng.choice(CONSUMERS)
    world.provider_mode("hang")
    time.sleep(1.5)
    world.kill(name)
    world.provider_mode("ok")
    world.begin(name)


def _empty_broker(world: World, rng: random.Random) -> None:
    world.empty_broker(seconds=rng.uniform(0.2, 4))


def _lose_backlog(world: World, rng: random.Random) -> None:
    """Empty the broker while it holds messages that no consumer has read."""
    name = rng.choice(CONSUMERS)
    world.kill(name)
    time.sleep(2)
    world.empty_broker(seconds=rng.uniform(0.2, 2))
    world.begin(name)


def _freeze_relay(world: World, rng: random.Random) -> None:
    name = rng.choice(("relay-1", "relay-2"))
    world.freeze(name)
    time.sleep(rng.uniform(3, 12))
    world.thaw(name)


def _fill_disk(world: World, rng: random.Random) -> None:
    world.fill_disk(seconds=rng.uniform(2, 5))


BROKER_RESTARTS_WITH_DATA = Fault(
    "broker killed, restarts with its data",
    lambda world, rng: world.restart_broker(seconds=rng.uniform(0.2, 4)),
)

FAULTS: Sequence[Fault] = (
    Fault("relay killed", _kill("relay-1", "relay-2")),
    Fault("relay frozen, wakes as a zombie", _freeze_relay),
    Fault("consumer killed", _kill(*CONSUMERS)),
    Fault("consumer killed in a call", _kill_in_call),
    Fault("audit killed", _kill("audit-1")),
    Fault("app killed", _kill("app-1")),
    Fault("consumer frozen, wakes as a zombie", _zombie),
    Fault("channel scaled 1-4-2-1", _scale),
    Fault("broker killed, restarts empty", _empty_broker),
    Fault("broker emptied with a backlog", _lose_backlog),
    Fault("broker cut off", lambda world, rng: world.stall_broker(seconds=rng.uniform(2, 8))),
    Fault(
        "database restarted",
        lambda world, rng: world.restart_postgres(seconds=rng.uniform(0.2, 3)),
    ),
    Fault(
        "database stalled",
        lambda world, rng: world.stall_postgres(seconds=rng.uniform(2, 8)),
    ),
    Fault("database's disk full", _fill_disk),
    Fault("provider limits", _provider_mode("limited")),
    Fault("provider breaks", _provider_mode("error")),
    Fault("provider hangs", _provider_mode("hang")),
    Fault("provider closes", _provider_mode("close")),
)
