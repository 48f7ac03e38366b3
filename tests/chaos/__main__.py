"""`python -m tests.chaos --seed N`: inject faults in the order of the seed, then check.

Exits with 1 if a promise was broken, and prints the command that repeats the run.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.brokers import BrokerKind
from tests.chaos.checker import (
    Findings,
    check,
    front_door_promises,
    promises_of,
    read_lines,
    unfinished,
)
from tests.chaos.faults import Fault, schedule
from tests.chaos.front_door import FrontDoor
from tests.chaos.traffic import Traffic
from tests.chaos.world import World

FINAL_WITHIN = 60.0


def main() -> int:
    """Run, print the report, and return the exit code: 0 if every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="tests.chaos", description="Inject every fault under traffic, then check the promises."
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--faults", type=int, help="number of faults; by default each occurs once")
    parser.add_argument(
        "--kafka", type=BrokerKind, default=BrokerKind.EMBEDDED, choices=list(BrokerKind)
    )
    parser.add_argument("--rate", type=float, default=40.0, help="messages per second")
    parser.add_argument("--only", help="inject only faults with names that begin with this")
    parser.add_argument("--plant", help="plant this bug in the product, to prove that it is found")
    parser.add_argument(
        "--patience",
        type=float,
        default=2.5 * FINAL_WITHIN,
        help="seconds to wait for final statuses",
    )
    parser.add_argument("--keep", type=Path, help="keep logs and journals in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        world = World(
            options.keep or Path(folder) / "world",
            seed=options.seed,
            plant=options.plant,
            kafka=options.kafka,
        )
        try:
            return _run(world, options)
        finally:
            world.stop()


def _run(world: World, options: argparse.Namespace) -> int:
    faults = schedule(world.seed, length=options.faults, only=options.only, kafka=world.kafka)
    print(f"seed {world.seed}: {len(faults)} faults under {options.rate:g} messages/s")
    world.start()
    traffic = Traffic(world.url, world.key, world.answers, seed=world.seed, rate=options.rate * 0.9)
    front_door = FrontDoor(
        world.bootstrap_servers, world.front_door, seed=world.seed, rate=options.rate * 0.1
    )
    try:
        traffic.start()
        front_door.start()
        _inject(world, faults)
    finally:
        repaired_at = time.monotonic()
        traffic.stop()
        front_door.stop()
    recovery_seconds = _wait_until_final(world, since=repaired_at, patience=options.patience)
    findings = _findings(world)
    print(findings.report())
    print(f"time to recover     {recovery_seconds:>8.1f} s after the last fault")
    for refusal in traffic.refused[:5]:
        print(f"refused: {refusal}")
    is_clean = findings.is_clean and recovery_seconds <= FINAL_WITHIN and not traffic.refused
    print(f"{'clean' if is_clean else 'BROKEN'}: make chaos SEED={world.seed}")
    return 0 if is_clean else 1


def _inject(world: World, faults: Sequence[Fault]) -> None:
    """Inject one fault after another, with short pauses."""
    rng = random.Random(world.seed)
    started_at = time.monotonic()
    time.sleep(3)
    for fault in faults:
        print(f"{time.monotonic() - started_at:7.1f} s  {fault.name}", flush=True)
        fault.inject(world, rng)
        time.sleep(rng.uniform(1, 5))


def _findings(world: World) -> Findings:
    journal = read_lines(world.journal)
    return check(
        promises_of(world.answers),
        journal,
        world.database_url,
        front_door=front_door_promises(world.front_door, world.emptied_at, journal),
    )


def _wait_until_final(world: World, *, since: float, patience: float) -> float:
    """Wait until every accepted message is final, or `patience` seconds have passed.

    Returns:
        The seconds since `since`.
    """
    journal = read_lines(world.journal)
    promises = promises_of(world.answers)
    promises += front_door_promises(world.front_door, world.emptied_at, journal)
    while (seconds := time.monotonic() - since) < patience:
        with suppress(psycopg.OperationalError):  # the database may have just been restarted
            if not unfinished(promises, world.database_url):
                break
        time.sleep(0.5)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
