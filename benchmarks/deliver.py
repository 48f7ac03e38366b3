"""How many messages a second one channel process delivers, with everything on.

    python -m benchmarks.deliver [--count 10000] [--latency 0.05] [--concurrency 256] [--rounds 3]

Starts the embedded broker and PostgreSQL and a provider that answers after 50 ms, fills the topic,
and lets two processes empty it, one after the other and in turns: `benchmarks.minimal`, a loop
without any of the promises, and `consumers.sms` with ledger, status events and commits. Prints
messages a second and CPU seconds per 1,000 messages of each, and the ratio.
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

CHANNEL = (
    "import threading, signal; from comms.platform.settings import load;"
    "from comms.platform import logs;"
    "from consumers.service import run_channel; from schemas.vocabulary import Channel;"
    "stop = threading.Event(); signal.signal(signal.SIGTERM, lambda *_: stop.set());"
    "logs.configure('sms', level='WARNING'); run_channel(Channel.SMS, load(), stop)"
)


@dataclass(frozen=True, slots=True)
class Result:
    """One run: messages a second by the provider's clock, and CPU seconds of the process."""

    rate: float
    cpu: float


def fill(broker: Broker, count: int) -> None:
    """Put `count` messages to as many recipients into the topic."""
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


def stats(url: str) -> dict[str, float]:
    """What the provider counted."""
    with urllib.request.urlopen(f"{url}/stats") as answer:  # noqa: S310 - our own stub
        found: dict[str, float] = json.load(answer)
    return found


def run(argv: list[str], env: dict[str, str], url: str, count: int) -> Result:
    """Run a process until the provider was called `count` times, then end it and account for it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([sys.executable, *argv], env={**os.environ, **env})  # noqa: S603
    pause = threading.Event()
    try:
        while (found := stats(url))["calls"] < count:
            assert process.poll() in {None, 0}, "the process ended early"
            pause.wait(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Result(count / (found["last"] - found["first"]), cpu)


class Bench:
    """Engines, and one round on them."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self._postgres = EmbeddedPostgres(folder / "postgres")

    def __enter__(self) -> "Bench":
        self._postgres.start()
        upgrade(self._postgres.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.stop()

    def round(self, name: str) -> Result:
        """One process empties a topic of its own."""
        engine = EmbeddedBroker(self._folder / "broker")
        engine.start()
        port = free_port()
        stub = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "benchmarks.stub", str(port), str(self._options.latency)]
        )
        try:
            broker = Broker({"bootstrap.servers": engine.bootstrap_servers})
            broker.apply_topics()
            fill(broker, self._options.count)
            url = f"http://127.0.0.1:{port}"
            return self._minimal(engine, url) if name == "minimal" else self._ours(engine, url)
        finally:
            stub.terminate()
            stub.wait()
            engine.stop()

    def _minimal(self, engine: EmbeddedBroker, url: str) -> Result:
        argv = ["-m", "benchmarks.minimal", engine.bootstrap_servers, url]
        argv += [str(self._options.concurrency), str(self._options.count)]
        return run(argv, {}, url, self._options.count)

    def _ours(self, engine: EmbeddedBroker, url: str) -> Result:
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
        result = run(["-c", CHANNEL], env, url, self._options.count)
        with psycopg.connect(self._postgres.url) as session:
            row = session.execute("SELECT count(*) FROM consumers.outcome").fetchone()
        assert row == (self._options.count,), f"the ledger has {row} outcomes"
        return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, list[Result]] = {"minimal": [], "comms": []}
    with tempfile.TemporaryDirectory() as folder, Bench(Path(folder), options) as bench:
        for number in range(options.rounds):
            for name, found in results.items():
                result = bench.round(name)
                found.append(result)
                cpu = 1000 * result.cpu / options.count
                print(f"round {number + 1} {name:8} {result.rate:6.0f}/s {cpu:6.3f} CPU s/1000")
    rates = {name: statistics.median(r.rate for r in found) for name, found in results.items()}
    print(f"ratio comms/minimal: {rates['comms'] / rates['minimal']:.2f} of the messages a second")


if __name__ == "__main__":
    main()
