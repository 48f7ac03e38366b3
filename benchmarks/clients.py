"""Measure the cost of a call with different HTTP clients: many small POSTs at the same time.

    python -m benchmarks.clients [--count 10000] [--latency 0.02] [--in-flight 20 200 512]

A stub in another process answers after a fixed time. The clients of `benchmarks.callers` make the
same calls in turns, each in a process of its own. The benchmark prints calls a second, CPU
milliseconds a call (of all threads of the process), and the ratio to aiohttp in the same run. If
the machine does other work too, trust the CPU time.

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
    """The cost of calls: calls a second, and CPU milliseconds a call."""

    rate: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:7.0f}/s {self.cpu:.3f} CPU ms"


async def measure(call: Callable[[], Awaitable[None]], count: int, in_flight: int) -> Cost:
    """Measure `count` calls, `in_flight` of them at a time.

    Twice `in_flight` calls come first and are not measured: they open the connections.
    """
    await _repeat(call, 2 * in_flight, in_flight)
    cpu_start, start = time.process_time(), time.perf_counter()
    await _repeat(call, count, in_flight)
    cpu, duration = time.process_time() - cpu_start, time.perf_counter() - start
    return Cost(count / duration, 1000 * cpu / count)


async def _repeat(call: Callable[[], Awaitable[None]], count: int, in_flight: int) -> None:
    remaining = iter(range(count))

    async def work() -> None:
        for _ in remaining:
            await call()

    await asyncio.gather(*(work() for _ in range(in_flight)))


async def measure_client(name: str, url: str, *, count: int, in_flight: int) -> Cost:
    """Measure calls with one client."""
    async with CALLERS[name](url + PATH, connections=in_flight) as call:

        async def checked_call() -> None:
            assert await call() == 201

        return await measure(checked_call, count, in_flight)


@contextmanager
def running_stub(latency: float) -> Iterator[str]:
    """Run a stub provider that answers after `latency` seconds, and yield its URL."""
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
    pause, deadline = threading.Event(), time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url).close()  # noqa: S310 - the stub of this benchmark
        except OSError:
            pause.wait(0.05)
        else:
            return
    raise TimeoutError("the stub does not answer")


def measure_in_process(module: str, *arguments: str) -> Cost:
    """Run `module --one …` in a process of its own, and return the cost that it prints."""
    argv = [sys.executable, "-m", module, "--one", *arguments]
    result = subprocess.run(argv, check=True, capture_output=True, text=True)  # noqa: S603
    return Cost(**json.loads(result.stdout))


def median(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(statistics.median(c.rate for c in costs), statistics.median(c.cpu for c in costs))


def main() -> None:
    """Measure all clients and print their costs."""
    if sys.argv[1:2] == ["--one"]:
        name, url, count, in_flight = sys.argv[2:]
        cost = uvloop.run(measure_client(name, url, count=int(count), in_flight=int(in_flight)))
        print(json.dumps(asdict(cost)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[20, 200, 512])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with running_stub(options.latency) as url:
        for in_flight in options.in_flight:
            _compare(url, in_flight, count=options.count, rounds=options.rounds)


def _compare(url: str, in_flight: int, *, count: int, rounds: int) -> None:
    costs: dict[str, list[Cost]] = {name: [] for name in CALLERS}
    for _ in range(rounds):
        for name, measured in costs.items():
            arguments = (name, url, str(count), str(in_flight))
            measured.append(measure_in_process("benchmarks.clients", *arguments))
    aiohttp = median(costs["aiohttp"])
    for name, measured in costs.items():
        cost = median(measured)
        ratio = cost.cpu / aiohttp.cpu
        print(f"{in_flight:4} in flight {name:10} {cost}  {ratio:.2f} of aiohttp")


if __name__ == "__main__":
    main()
