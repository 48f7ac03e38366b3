"""Measure what happens to the messages of a channel when one of its providers fails completely.

    python -m benchmarks.outage [--rate 200] [--before 60] [--dead 300] [--after 700]

One channel process has two providers of equal weight, and messages arrive at a steady rate. One
provider is killed, and is started again after some minutes. Every ten seconds the benchmark prints
the messages and the weight of each provider. At the end it prints how long the traffic took to
move, and how the messages ended.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.deliver import CHANNEL
from comms.platform.kafka import Broker
from comms.platform.upgrading import upgrade
from comms.stack.broker import EmbeddedBroker
from comms.stack.postgres import EmbeddedPostgres
from comms.stack.process import free_port
from schemas.codec import Codec
from schemas.ids import new_message_id
from schemas.messages import SmsMessage

REPORT_SECONDS = 10.0
SENT_SQL = """
SELECT a.provider, count(*) FROM consumers.outcome o
JOIN consumers.attempt a USING (message_id, attempt)
WHERE o.status = 'sent' AND o.occurred_at > now() - make_interval(secs => %s) GROUP BY 1
"""
OUTCOMES_SQL = """
SELECT count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'sending'),
       count(*) FILTER (WHERE status NOT IN ('sent', 'sending'))
FROM (SELECT DISTINCT ON (message_id) status FROM consumers.outcome
      ORDER BY message_id, attempt DESC) AS last
"""
LAST_ATTEMPT_SQL = """
SELECT extract(epoch FROM max(claimed_at) - %(killed_at)s)::float8 FROM consumers.attempt a
WHERE provider = 'first'
  AND claimed_at BETWEEN %(killed_at)s AND %(killed_at)s + interval '14 seconds'
"""
SLOWEST_SQL = """
SELECT max(extract(epoch FROM o.occurred_at - a.claimed_at))::float8 FROM consumers.attempt a
JOIN consumers.outcome o ON o.message_id = a.message_id AND o.status = 'sent'
WHERE a.attempt = 1
"""


class Feeder(threading.Thread):
    """Publishes messages at a steady rate, on a thread of its own."""

    def __init__(self, broker: Broker, rate: float) -> None:
        super().__init__()
        self.count = 0
        self._broker = broker
        self._rate = rate
        self._is_stopping = threading.Event()

    def run(self) -> None:
        """Publish until `stop` is called."""
        producer, codec, start = self._broker.producer(), Codec(), time.monotonic()
        while not self._is_stopping.wait(0.05):
            while self.count < self._rate * (time.monotonic() - start):
                self.count += 1
                message = _new_message(self.count)
                value = codec.encode(message, topic="comms.sms")
                producer.publish("comms.sms", key=message.key, value=value)
        producer.close()

    def stop(self) -> None:
        """Stop publishing, and wait for the thread if it was started."""
        self._is_stopping.set()
        if self.is_alive():
            self.join()


def _new_message(number: int) -> SmsMessage:
    return SmsMessage(
        id=new_message_id(),
        tenant="benchmark",
        created_at=datetime.now(UTC),
        to=f"+1212{5_000_000 + number % 900_000:07d}",
        body="Your technician arrives between nine and ten tomorrow.",
    )


def start_stub(port: int) -> "subprocess.Popen[bytes]":
    """Start a stub provider that answers after 50 ms."""
    return subprocess.Popen([sys.executable, "-m", "benchmarks.stub", str(port), "0.05"])  # noqa: S603


def report_until(session: "psycopg.Connection[tuple[Any, ...]]", start: float, end: float) -> None:
    """Print a line every ten seconds, until `end` seconds after `start`."""
    pause = threading.Event()
    while time.monotonic() < start + end:
        pause.wait(REPORT_SECONDS)
        sent = dict(session.execute(SENT_SQL, (REPORT_SECONDS,)).fetchall())
        weights = dict(session.execute("SELECT provider, weight FROM consumers.route").fetchall())
        print(f"{time.monotonic() - start:6.0f} s  sent {sent}  weights {weights}", flush=True)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Run the benchmark on embedded engines in `folder`."""
    postgres, engine = EmbeddedPostgres(folder / "postgres"), EmbeddedBroker(folder / "broker")
    postgres.start()
    engine.start()
    upgrade(postgres.url)
    broker = Broker({"bootstrap.servers": engine.bootstrap_servers})
    broker.apply_topics()
    ports = {"first": free_port(), "second": free_port()}
    env = {
        **os.environ,
        "COMMS_CONFIG": str(_write_settings(folder, ports)),
        "COMMS_DATABASE_URL": postgres.url,
        "COMMS_KAFKA_BOOTSTRAP_SERVERS": engine.bootstrap_servers,
        "COMMS_HTTP_PORT": str(free_port()),
    }
    stubs = {name: start_stub(port) for name, port in ports.items()}
    channel = subprocess.Popen([sys.executable, "-c", CHANNEL], env=env)  # noqa: S603
    feeder = Feeder(broker, options.rate)
    start = time.monotonic()
    try:
        with psycopg.connect(postgres.url, autocommit=True) as session:
            feeder.start()
            report_until(session, start, options.before)
            stubs["first"].kill()
            killed_at = datetime.now(UTC)
            print("        the first provider is killed", flush=True)
            report_until(session, start, options.before + options.dead)
            stubs["first"] = start_stub(ports["first"])
            print("        the first provider is started again", flush=True)
            report_until(session, start, options.before + options.dead + options.after)
            feeder.stop()
            report_until(session, time.monotonic(), REPORT_SECONDS)
            _print_summary(session, killed_at, feeder.count)
    finally:
        feeder.stop()
        channel.send_signal(signal.SIGTERM)
        channel.wait(60)
        for process in stubs.values():
            process.kill()
        engine.stop()
        postgres.stop()


def _write_settings(folder: Path, ports: dict[str, int]) -> Path:
    file = folder / "comms.toml"
    file.write_text(
        "".join(
            f'[[sms.providers]]\nname = "{name}"\ntype = "simulated"\nweight = 50\n'
            f"url = {json.dumps(f'http://127.0.0.1:{port}')}\n"
            for name, port in ports.items()
        )
    )
    return file


def _print_summary(
    session: "psycopg.Connection[tuple[Any, ...]]", killed_at: datetime, count: int
) -> None:
    (last_attempt,) = session.execute(LAST_ATTEMPT_SQL, {"killed_at": killed_at}).fetchone() or (
        None,
    )
    (slowest,) = session.execute(SLOWEST_SQL).fetchone() or (None,)
    sent, waiting, others = session.execute(OUTCOMES_SQL).fetchone() or (0, 0, 0)
    print(f"last ordinary attempt through the dead provider: {last_attempt} s after it was killed")
    print(f"messages {count}, sent {sent}, waiting {waiting}, failed or other {others}")
    print(f"slowest message, from its first claim to accepted: {slowest} s")


def main() -> None:
    """Read the options and run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--before", type=float, default=60.0)
    parser.add_argument("--dead", type=float, default=300.0)
    parser.add_argument("--after", type=float, default=700.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


if __name__ == "__main__":
    main()
