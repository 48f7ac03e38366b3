"""`python -m tests.chaos --seed N`: break everything in the order of the seed, then check.

Exits with 1 when a promise was broken, and prints the seed that repeats the run.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.brokers import Kind
from tests.chaos.checker import Findings, check, doors_of, promises_of, read_lines, unfinished
from tests.chaos.faults import Fault, schedule
from tests.chaos.front_door import FrontDoor
from tests.chaos.traffic import Traffic
from tests.chaos.world import World

FINAL_WITHIN = 60.0


def main() -> int:
    """Run, report, and say by the exit code whether it was clean."""
    parser = argparse.ArgumentParser(
        prog="tests.chaos", description="Break everything, then check."
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--faults", type=int, help="how many; each kind once")
    parser.add_argument("--kafka", type=Kind, default=Kind.EMBEDDED, choices=list(Kind))
    parser.add_argument("--rate", type=float, default=40.0, help="messages a second")
    parser.add_argument("--only", help="faults whose name begins so, and no others")
    parser.add_argument("--plant", help="a fault put into the product, to see that it is found")
    parser.add_argument(
        "--patience", type=float, default=2.5 * FINAL_WITHIN, help="seconds until all is final"
    )
    parser.add_argument("--keep", type=Path, help="a folder for logs and journals")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        world = World(
            given.keep or Path(folder) / "world",
            seed=given.seed,
            plant=given.plant,
            kafka=given.kafka,
        )
        try:
            return _run(world, given)
        finally:
            world.stop()


def _run(world: World, given: argparse.Namespace) -> int:
    faults = schedule(world.seed, length=given.faults, only=given.only, kafka=world.kafka)
    print(f"seed {world.seed}: {len(faults)} faults under {given.rate:g} messages/s")
    world.start()
    traffic = Traffic(world.url, world.key, world.answers, seed=world.seed, rate=given.rate * 0.9)
    doors = FrontDoor(world.bootstrap_servers, world.doors, seed=world.seed, rate=given.rate * 0.1)
    try:
        traffic.start()
        doors.start()
        _break(world, faults)
    finally:
        mended = time.monotonic()
        traffic.stop()
        doors.stop()
    recovered = _until_final(world, since=mended, patience=given.patience)
    findings = _findings(world)
    print(findings.report())
    print(f"time to recover     {recovered:>8.1f} s after the last fault")
    for refusal in traffic.refused[:5]:
        print(f"refused: {refusal}")
    clean = findings.is_clean and recovered <= FINAL_WITHIN and not traffic.refused
    print(f"{'clean' if clean else 'BROKEN'}: make chaos SEED={world.seed}")
    return 0 if clean else 1


def _break(world: World, faults: Sequence[Fault]) -> None:
    """One fault after another, with some quiet between."""
    chance, begun = random.Random(world.seed), time.monotonic()
    time.sleep(3)
    for fault in faults:
        print(f"{time.monotonic() - begun:7.1f} s  {fault.name}", flush=True)
        fault.happen(world, chance)
        time.sleep(chance.uniform(1, 5))


def _findings(world: World) -> Findings:
    journal = read_lines(world.journal)
    return check(
        promises_of(world.answers),
        journal,
        world.database_url,
        doors=doors_of(world.doors, world.emptied_at, journal),
    )


def _until_final(world: World, *, since: float, patience: float) -> float:
    """Seconds from `since` until everything was final, or until that took far too long."""
    journal = read_lines(world.journal)
    promises = promises_of(world.answers) + doors_of(world.doors, world.emptied_at, journal)
    while (seconds := time.monotonic() - since) < patience:
        try:
            if not unfinished(promises, world.database_url):
                break
        except psycopg.OperationalError:
            pass  # it has just been restarted
        time.sleep(0.5)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
