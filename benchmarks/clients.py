"""What a call costs by different HTTP clients, on what this layer does: small POSTs, many at once.

    python -m benchmarks.clients [--count 10000] [--latency 0.02] [--in-flight 20 200 512]

A stub in a process of its own answers after a fixed wait. Each client of `benchmarks.callers` makes
the same calls in a process of its own, in turns. Prints calls a second, CPU milliseconds a call
(all threads of the client's process), and their ratio to aiohttp's in the same run. Where other
work is done on the machine, the CPU time is the figure to trust.

    pip install -e '.[bench]'       # the clients that the product does not use
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import uvloop

from benchmarks.callers import CALLERS
from comms.stack.process import free_port

PATH = "/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """What calls took: calls a second, and milliseconds of CPU a call."""

    rate: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:7.0f}/s {self.cpu:.3f} CPU ms"


async def cost_of(call: Callable[[], Awaitable[None]], count: int, in_flight: int) -> Cost:
    """Make `count` calls, `in_flight` of them at a time, after as many as open the connections."""
    await _make(call, 2 * in_flight, in_flight)
    cpu, began = time.process_time(), time.perf_counter()
    await _make(call, count, in_flight)
    cpu, took = time.process_time() - cpu, time.perf_counter() - began
    return Cost(count / took, 1000 * cpu / count)


async def _make(call: Callable[[], Awaitable[None]], count: int, in_flight: int) -> None:
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(work() for _ in range(in_flight)))


async def bare(name: str, url: str, count: int, in_flight: int) -> Cost:
    """What calls by one client cost."""
    async with CALLERS[name](url + PATH, connections=in_flight) as call:

        async def once() -> None:
            assert await call() == 201

        return await cost_of(once, count, in_flight)


@contextmanager
def stub(latency: float) -> Iterator[str]:
    """A provider that answers after `latency` seconds; yields its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.stub", str(port), str(latency)])  # noqa: S603
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/stats")
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    pause, until = threading.Event(), time.monotonic() + 10
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url).close()  # noqa: S310 - our own stub
        except OSError:
            pause.wait(0.05)
        else:
            return
    raise TimeoutError("the stub does not answer")


def apart(module: str, *arguments: str) -> Cost:
    """A cost that `module --one …` measures in a process of its own."""
    argv = [sys.executable, "-m", module, "--one", *arguments]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)  # noqa: S603
    return Cost(**json.loads(done.stdout))


def median(costs: list[Cost]) -> Cost:
    """The middle one of each figure."""
    return Cost(statistics.median(c.rate for c in costs), statistics.median(c.cpu for c in costs))


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--one"]:
        name, url, count, in_flight = sys.argv[2:]
        print(json.dumps(asdict(uvloop.run(bare(name, url, int(count), int(in_flight))))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[20, 200, 512])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with stub(options.latency) as url:
        for in_flight in options.in_flight:
            _compare(url, options.count, in_flight, options.rounds)


def _compare(url: str, count: int, in_flight: int, rounds: int) -> None:
    costs: dict[str, list[Cost]] = {name: [] for name in CALLERS}
    for _ in range(rounds):
        for name, found in costs.items():
            found.append(apart("benchmarks.clients", name, url, str(count), str(in_flight)))
    aiohttp = median(costs["aiohttp"])
    for name, found in costs.items():
        cost = median(found)
        print(
            f"{in_flight:4} in flight {name:10} {cost}  {cost.cpu / aiohttp.cpu:.2f} of aiohttp's"
        )


if __name__ == "__main__":
    main()
