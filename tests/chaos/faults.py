"""What can go wrong, and the seeded order in which it does.

Each fault breaks something in the world, waits while traffic goes on, and mends it.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.brokers import Kind
from tests.chaos.world import World

CONSUMERS = ("sms-1", "email-1", "push-1", "voice-1")
ZOMBIE_SECONDS = 15.0  # longer than a consumer's session with the broker

Break = Callable[[World, random.Random], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to the world."""

    name: str
    happen: Break


def faults_on(kafka: Kind) -> Sequence[Fault]:
    """What can go wrong with that broker: only what is on a disk can be there again."""
    return FAULTS if kafka is Kind.EMBEDDED else (*FAULTS, RESTARTED_WITH_ITS_DATA)


def schedule(
    seed: int, *, length: int | None, only: str | None = None, kafka: Kind = Kind.EMBEDDED
) -> list[Fault]:
    """Faults in the order of the seed; every kind comes before one is repeated.

    Args:
        length: how many; each kind once, unless given.
        only: words that the name of every fault begins with.
    """
    chance = random.Random(seed)
    offered = faults_on(kafka)
    kinds = [fault for fault in offered if fault.name.startswith(only or "")]
    length = len(offered) if length is None else length
    found: list[Fault] = []
    while kinds and len(found) < length:
        found += chance.sample(kinds, len(kinds))
    return found[:length]


def _killed(*names: str) -> Break:
    def happen(world: World, chance: random.Random) -> None:
        name = chance.choice(names)
        world.kill(name)
        time.sleep(chance.uniform(0.2, 3))
        world.begin(name)

    return happen


def _provider(mode: str) -> Break:
    def happen(world: World, chance: random.Random) -> None:
        world.provider_mode(mode)
        time.sleep(chance.uniform(2, 5))
        world.provider_mode("ok")

    return happen


def _zombie(world: World, chance: random.Random) -> None:
    name = chance.choice(CONSUMERS)
    world.begin(f"{name[:-1]}2")
    time.sleep(3)
    world.freeze(name)
    time.sleep(ZOMBIE_SECONDS)
    world.thaw(name)
    time.sleep(2)
    world.drain(f"{name[:-1]}2")


def _scaled(world: World, chance: random.Random) -> None:
    channel = chance.choice(CONSUMERS)[:-1]
    for n in (2, 3, 4):
        world.begin(f"{channel}{n}")
    time.sleep(8)
    world.drain(f"{channel}4")
    world.kill(f"{channel}3")
    time.sleep(4)
    world.drain(f"{channel}2")


def _mid_call(world: World, chance: random.Random) -> None:
    """A consumer dies with calls open that the provider has taken and not answered."""
    name = chance.choice(CONSUMERS)
    world.provider_mode("hang")
    time.sleep(1.5)
    world.kill(name)
    world.provider_mode("ok")
    world.begin(name)


def _emptied(world: World, chance: random.Random) -> None:
    world.empty_broker(seconds=chance.uniform(0.2, 4))


def _backlog_lost(world: World, chance: random.Random) -> None:
    """The broker is emptied while it holds messages that no consumer has read."""
    name = chance.choice(CONSUMERS)
    world.kill(name)
    time.sleep(2)
    world.empty_broker(seconds=chance.uniform(0.2, 2))
    world.begin(name)


def _relay_frozen(world: World, chance: random.Random) -> None:
    name = chance.choice(("relay-1", "relay-2"))
    world.freeze(name)
    time.sleep(chance.uniform(3, 12))
    world.thaw(name)


def _disk_full(world: World, chance: random.Random) -> None:
    world.fill_disk(seconds=chance.uniform(2, 5))


RESTARTED_WITH_ITS_DATA = Fault(
    "broker killed, restarts with its data",
    lambda world, chance: world.restart_broker(seconds=chance.uniform(0.2, 4)),
)

FAULTS: Sequence[Fault] = (
    Fault("relay killed", _killed("relay-1", "relay-2")),
    Fault("relay frozen, wakes as a zombie", _relay_frozen),
    Fault("consumer killed", _killed(*CONSUMERS)),
    Fault("consumer killed in a call", _mid_call),
    Fault("audit killed", _killed("audit-1")),
    Fault("app killed", _killed("app-1")),
    Fault("consumer frozen, wakes as a zombie", _zombie),
    Fault("channel scaled 1-4-2-1", _scaled),
    Fault("broker killed, restarts empty", _emptied),
    Fault("broker emptied with a backlog", _backlog_lost),
    Fault("broker cut off", lambda world, chance: world.stall_broker(seconds=chance.uniform(2, 8))),
    Fault(
        "database restarted",
        lambda world, chance: world.restart_postgres(seconds=chance.uniform(0.2, 3)),
    ),
    Fault(
        "database stalled",
        lambda world, chance: world.stall_postgres(seconds=chance.uniform(2, 8)),
    ),
    Fault("database's disk full", _disk_full),
    Fault("provider limits", _provider("limited")),
    Fault("provider breaks", _provider("error")),
    Fault("provider hangs", _provider("hang")),
    Fault("provider closes", _provider("close")),
)
