"""Measure how many messages a second one channel process delivers, with all its guarantees.

    python -m benchmarks.deliver [--count 10000] [--latency 0.05] [--concurrency 256] [--rounds 3]

The benchmark starts the embedded broker, PostgreSQL, and a stub provider that answers after 50 ms.
It fills the topic and runs two consumers in turns: `benchmarks.minimal`, a loop without any
guarantee, and `consumers.sms` with ledger, status events and commits. It prints messages a second
and CPU seconds per 1,000 messages of each, and the ratio.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from comms.platform.kafka import Broker
from comms.platform.upgrading import upgrade
from comms.stack.broker import EmbeddedBroker
from comms.stack.postgres import EmbeddedPostgres
from comms.stack.process import free_port
from schemas.codec import Codec
from schemas.ids import new_message_id
from schemas.messages import SmsMessage

# The program of a channel process.
CHANNEL = """
import signal, threading
from comms.platform import logs
from comms.platform.settings import load
from consumers.service import run_channel
from schemas.vocabulary import Channel

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
logs.configure("sms", level="WARNING")
run_channel(Channel.SMS, load(), stop)
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One run: messages a second by the clock of the provider, and CPU seconds of the process."""

    rate: float
    cpu: float


def fill_topic(broker: Broker, count: int) -> None:
    """Publish `count` messages, each to a recipient of its own."""
    producer, codec, now = broker.producer(), Codec(), datetime.now(UTC)
    for number in range(count):
        message = SmsMessage(
            id=new_message_id(),
            tenant="benchmark",
            created_at=now,
            to=f"+1202{number:07d}".replace("+12020", "+12125"),
            body="Your technician arrives between nine and ten tomorrow.",
        )
        value = codec.encode(message, topic="comms.sms")
        producer.publish("comms.sms", key=message.key, value=value)
    assert producer.flush(60) == 0
    producer.close()


def read_stats(url: str) -> dict[str, float]:
    """Return the number of calls of the stub, and the times of the first and the last one."""
    with urllib.request.urlopen(f"{url}/stats") as response:  # noqa: S310 - our own stub
        stats: dict[str, float] = json.load(response)
    return stats


def measure(argv: list[str], env: dict[str, str], *, url: str, count: int) -> Result:
    """Run a process until the provider was called `count` times, then stop it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([sys.executable, *argv], env={**os.environ, **env})  # noqa: S603
    pause = threading.Event()
    try:
        while (stats := read_stats(url))["calls"] < count:
            assert process.poll() in {None, 0}, "the process ended early"
            pause.wait(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Result(count / (stats["last"] - stats["first"]), cpu)


class Bench:
    """The embedded PostgreSQL of all rounds; each round has a broker and a stub of its own."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._postgres = EmbeddedPostgres(folder / "postgres")

    def __enter__(self) -> "Bench":
        self._postgres.start()
        upgrade(self._postgres.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.stop()

    def run_round(self, name: str) -> Result:
        """Let one consumer, `minimal` or `comms`, process a topic."""
        engine = EmbeddedBroker(self._folder / "broker")
        engine.start()
        port = free_port()
        stub = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "benchmarks.stub", str(port), str(self._options.latency)]
        )
        try:
            broker = Broker({"bootstrap.servers": engine.bootstrap_servers})
            broker.apply_topics()
            fill_topic(broker, self._options.count)
            url = f"http://127.0.0.1:{port}"
            if name == "minimal":
                return self._measure_minimal(engine, url)
            return self._measure_channel(engine, url)
        finally:
            stub.terminate()
            stub.wait()
            engine.stop()

    def _measure_minimal(self, engine: EmbeddedBroker, url: str) -> Result:
        argv = ["-m", "benchmarks.minimal", engine.bootstrap_servers, url]
        argv += [str(self._options.concurrency), str(self._options.count)]
        return measure(argv, {}, url=url, count=self._options.count)

    def _measure_channel(self, engine: EmbeddedBroker, url: str) -> Result:
        env = {
            "COMMS_DATABASE_URL": self._postgres.url,
            "COMMS_KAFKA_BOOTSTRAP_SERVERS": engine.bootstrap_servers,
            "COMMS_SIMULATOR_URL": url,
            "COMMS_SMS_CONCURRENCY": str(self._options.concurrency),
            "COMMS_HTTP_PORT": str(free_port()),
            "COMMS_LOG_LEVEL": "WARNING",
        }
        with psycopg.connect(self._postgres.url) as session:
            session.execute("TRUNCATE consumers.attempt, consumers.outcome, consumers.deferred")
        result = measure(["-c", CHANNEL], env, url=url, count=self._options.count)
        with psycopg.connect(self._postgres.url) as session:
            row = session.execute("SELECT count(*) FROM consumers.outcome").fetchone()
        assert row == (self._options.count,), f"the ledger has {row} outcomes"
        return result


def main() -> None:
    """Measure both consumers in turns and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, list[Result]] = {"minimal": [], "comms": []}
    with tempfile.TemporaryDirectory() as folder, Bench(Path(folder), options) as bench:
        for number in range(options.rounds):
            for name, measured in results.items():
                result = bench.run_round(name)
                measured.append(result)
                cpu = 1000 * result.cpu / options.count
                print(f"round {number + 1} {name:8} {result.rate:6.0f}/s {cpu:6.3f} CPU s/1000")
    rates = {
        name: statistics.median(result.rate for result in measured)
        for name, measured in results.items()
    }
    print(f"ratio comms/minimal: {rates['comms'] / rates['minimal']:.2f} of the messages a second")


if __name__ == "__main__":
    main()
