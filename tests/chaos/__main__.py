"""`python -m tests.chaos --seed N`: break everything in the order of the seed, then check.

Exits with 1 when a promise was broken, and prints the seed that repeats the run.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from tests.chaos.checker import check, promises_of, read_lines, unfinished
from tests.chaos.faults import FAULTS, schedule
from tests.chaos.traffic import Traffic
from tests.chaos.world import World

FINAL_WITHIN = 60.0


def main() -> int:
    """Run, report, and say by the exit code whether it was clean."""
    parser = argparse.ArgumentParser(
        prog="tests.chaos", description="Break everything, then check."
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--faults", type=int, default=len(FAULTS), help="how many")
    parser.add_argument("--rate", type=float, default=40.0, help="messages a second")
    parser.add_argument("--plant", help="a fault put into the product, to see that it is found")
    parser.add_argument("--keep", type=Path, help="a folder for logs and journals")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        world = World(given.keep or Path(folder), seed=given.seed, plant=given.plant)
        try:
            return _run(world, faults=given.faults, rate=given.rate)
        finally:
            world.stop()


def _run(world: World, *, faults: int, rate: float) -> int:
    print(f"seed {world.seed}: {faults} faults under {rate:g} messages/s")
    world.start()
    chance = random.Random(world.seed)
    traffic = Traffic(world.url, world.key, world.answers, seed=world.seed, rate=rate)
    traffic.start()
    begun = time.monotonic()
    try:
        time.sleep(3)
        for fault in schedule(world.seed, length=faults):
            print(f"{time.monotonic() - begun:7.1f} s  {fault.name}", flush=True)
            fault.happen(world, chance)
            time.sleep(chance.uniform(1, 5))
    finally:
        mended = time.monotonic()
        traffic.stop()
    recovered = _until_final(world, since=mended)
    findings = check(promises_of(world.answers), read_lines(world.journal), world.database_url)
    print(findings.report())
    print(f"time to recover     {recovered:>8.1f} s after the last fault")
    for refusal in traffic.refused[:5]:
        print(f"refused: {refusal}")
    clean = findings.is_clean and recovered <= FINAL_WITHIN and not traffic.refused
    print(f"{'clean' if clean else 'BROKEN'}: make chaos SEED={world.seed}")
    return 0 if clean else 1


def _until_final(world: World, *, since: float) -> float:
    """Seconds from `since` until everything was final, or until that took far too long."""
    promises = promises_of(world.answers)
    while (seconds := time.monotonic() - since) < 2.5 * FINAL_WITHIN:
        try:
            if not unfinished(promises, world.database_url):
                break
        except psycopg.OperationalError:
            pass  # it has just been restarted
        time.sleep(0.5)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
