"""What a provider's death does to the messages of its channel.

    python -m benchmarks.outage [--rate 200] [--before 60] [--dead 300] [--after 700]

One channel process with two providers of equal weight, messages at a steady rate. One provider is
killed, and comes back after some minutes. Prints, every ten seconds, what went through whom and the
weights, and at the end how long traffic took to move and what became of the messages.
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

EVERY = 10.0
SENT_SQL = """
SELECT a.provider, count(*) FROM consumers.outcome o
JOIN consumers.attempt a USING (message_id, attempt)
WHERE o.status = 'sent' AND o.occurred_at > now() - make_interval(secs => %s) GROUP BY 1
"""
LAST_SQL = """
SELECT count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'sending'),
       count(*) FILTER (WHERE status NOT IN ('sent', 'sending'))
FROM (SELECT DISTINCT ON (message_id) status FROM consumers.outcome
      ORDER BY message_id, attempt DESC) AS last
"""
MOVED_SQL = """
SELECT extract(epoch FROM max(claimed_at) - %(died)s)::float8 FROM consumers.attempt a
WHERE provider = 'first' AND claimed_at BETWEEN %(died)s AND %(died)s + interval '14 seconds'
"""
SLOWEST_SQL = """
SELECT max(extract(epoch FROM o.occurred_at - a.claimed_at))::float8 FROM consumers.attempt a
JOIN consumers.outcome o ON o.message_id = a.message_id AND o.status = 'sent'
WHERE a.attempt = 1
"""


def feed(broker: Broker, rate: float, stop: threading.Event, counted: list[int]) -> None:
    """Put messages into the topic at a steady rate."""
    producer, codec, began = broker.producer(), Codec(), time.monotonic()
    while not stop.wait(0.05):
        while counted[0] < rate * (time.monotonic() - began):
            counted[0] += 1
            message = SmsMessage(
                id=new_message_id(),
                tenant="benchmark",
                created_at=datetime.now(UTC),
                to=f"+1212{5_000_000 + counted[0] % 900_000:07d}",
                body="Your technician arrives between nine and ten tomorrow.",
            )
            value = codec.encode(message, topic="comms.sms")
            producer.publish("comms.sms", key=message.key, value=value)
    producer.close()


def stub(port: int) -> "subprocess.Popen[bytes]":
    """A provider that answers after 50 ms."""
    return subprocess.Popen([sys.executable, "-m", "benchmarks.stub", str(port), "0.05"])  # noqa: S603


def watch(session: "psycopg.Connection[tuple[Any, ...]]", began: float, until: float) -> None:
    """A line every ten seconds."""
    pause = threading.Event()
    while time.monotonic() < began + until:
        pause.wait(EVERY)
        sent = dict(session.execute(SENT_SQL, (EVERY,)).fetchall())
        weights = dict(session.execute("SELECT provider, weight FROM consumers.route").fetchall())
        print(f"{time.monotonic() - began:6.0f} s  sent {sent}  weights {weights}", flush=True)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Run it."""
    postgres, engine = EmbeddedPostgres(folder / "postgres"), EmbeddedBroker(folder / "broker")
    postgres.start()
    engine.start()
    upgrade(postgres.url)
    broker = Broker({"bootstrap.servers": engine.bootstrap_servers})
    broker.apply_topics()
    ports = {"first": free_port(), "second": free_port()}
    settings = folder / "comms.toml"
    settings.write_text(
        "".join(
            f'[[sms.providers]]\nname = "{name}"\ntype = "simulated"\nweight = 50\n'
            f"url = {json.dumps(f'http://127.0.0.1:{port}')}\n"
            for name, port in ports.items()
        )
    )
    env = {
        **os.environ,
        "COMMS_CONFIG": str(settings),
        "COMMS_DATABASE_URL": postgres.url,
        "COMMS_KAFKA_BOOTSTRAP_SERVERS": engine.bootstrap_servers,
        "COMMS_HTTP_PORT": str(free_port()),
    }
    stubs = {name: stub(port) for name, port in ports.items()}
    channel = subprocess.Popen([sys.executable, "-c", CHANNEL], env=env)  # noqa: S603
    stop, counted = threading.Event(), [0]
    feeding = threading.Thread(target=feed, args=(broker, options.rate, stop, counted))
    began = time.monotonic()
    try:
        with psycopg.connect(postgres.url, autocommit=True) as session:
            feeding.start()
            watch(session, began, options.before)
            stubs["first"].kill()
            died = datetime.now(UTC)
            print("        the first provider dies", flush=True)
            watch(session, began, options.before + options.dead)
            stubs["first"] = stub(ports["first"])
            print("        it is back", flush=True)
            watch(session, began, options.before + options.dead + options.after)
            stop.set()
            feeding.join()
            watch(session, time.monotonic(), EVERY)
            _report(session, died, counted[0])
    finally:
        stop.set()
        channel.send_signal(signal.SIGTERM)
        channel.wait(60)
        for process in stubs.values():
            process.kill()
        engine.stop()
        postgres.stop()


def _report(session: "psycopg.Connection[tuple[Any, ...]]", died: datetime, messages: int) -> None:
    (moved,) = session.execute(MOVED_SQL, {"died": died}).fetchone() or (None,)
    (slowest,) = session.execute(SLOWEST_SQL).fetchone() or (None,)
    sent, waiting, others = session.execute(LAST_SQL).fetchone() or (0, 0, 0)
    print(f"last ordinary attempt through the dead provider: {moved} s after its death")
    print(f"messages {messages}, sent {sent}, waiting {waiting}, failed or other {others}")
    print(f"slowest message, from its first claim to accepted: {slowest} s")


def main() -> None:
    """Measure and print."""
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
