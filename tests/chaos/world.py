"""The system as a deployment has it: every service a process of its own, and the ways to break it.

The run's main thread calls everything here; processes die with it.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psycopg

from comms.platform.kafka import Broker, KafkaFault
from comms.platform.upgrading import upgrade
from comms.stack import folder
from comms.stack.postgres import EmbeddedPostgres
from comms.stack.process import Program, end, free_port, launch
from comms.stack.services import is_ready
from tests import brokers
from tests.chaos.disk import Disk

START = ("app-1", "relay-1", "relay-2", "audit-1", "sms-1", "email-1", "push-1", "voice-1")
CHANNELS = ("SMS", "EMAIL", "PUSH", "VOICE")
CONCURRENCY = 24  # so that messages wait in a process, too, when it is killed
SECRET = "chaos-secret"


class World:
    """The engines, the provider and the services.

    Args:
        plant: a fault put into the product on purpose, named in `tests.chaos.planted`.
        kafka: which program is the broker.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        seed: int,
        plant: str | None = None,
        kafka: brokers.Kind = brokers.Kind.EMBEDDED,
    ) -> None:
        self.data_dir, self.seed, self._plant = data_dir, seed, plant
        self.journal, self.answers = data_dir / "journal.jsonl", data_dir / "answers.jsonl"
        self.doors = data_dir / "doors.jsonl"
        self.emptied_at: list[float] = []
        self.kafka = kafka
        self._broker = brokers.engine(kafka, data_dir / "broker")
        self._disk = Disk(data_dir / "postgres")
        self._postgres = EmbeddedPostgres(
            data_dir / "postgres", settings={"max_wal_size": "128MB", "min_wal_size": "32MB"}
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {"app-1": free_port(), "provider": free_port()}
        self.key = ""

    @property
    def url(self) -> str:
        """Where the app listens."""
        return f"http://127.0.0.1:{self._ports['app-1']}"

    @property
    def bootstrap_servers(self) -> str:
        """Where the broker listens."""
        return self._broker.bootstrap_servers

    @property
    def database_url(self) -> str:
        """The store."""
        return self._postgres.url

    def start(self) -> None:
        """Everything up and ready."""
        self.data_dir.mkdir(parents=True)  # what a former run kept must not be taken for this one's
        self._disk.mount()
        self._broker.start()
        self._topics()
        self._postgres.start()
        upgrade(self.database_url)
        self.key = folder.ensure_api_key(self.data_dir, self.database_url)
        self._launch_provider()
        for name in START:
            self.begin(name)
        wait_for(lambda: all(self.is_ready(name) for name in START), seconds=60)

    def stop(self) -> None:
        """Everything down."""
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            end(process, with_signal=signal.SIGKILL, grace=1)
        self._postgres.stop()
        self._broker.stop()
        self._disk.unmount()

    # Services

    def begin(self, name: str) -> None:
        """Start a service: `sms-2` is the second process of the channel."""
        port = self._ports.setdefault(name, free_port())
        service = name.partition("-")[0]
        module = ("comms",) if self._plant is None else ("tests.chaos.planted", self._plant)
        program = Program(
            name=name,
            argv=(sys.executable, "-m", *module, "run", service),
            log=self.data_dir / "logs" / f"{name}.log",
            env=self._environment(port),
        )
        self._running[name] = launch(program)

    def is_ready(self, name: str) -> bool:
        """Whether it says so."""
        return is_ready(self._ports[name])

    def kill(self, name: str) -> None:
        """As a machine's end would."""
        self._running[name].kill()
        self._running[name].wait()

    def drain(self, name: str) -> None:
        """As a deployment does."""
        end(self._running[name], with_signal=signal.SIGTERM, grace=30)

    def freeze(self, name: str) -> None:
        """The process stands still."""
        self._running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """It goes on, and does not know that time has passed."""
        self._running[name].send_signal(signal.SIGCONT)

    # Engines and the provider

    def empty_broker(self, *, seconds: float) -> None:
        """Kill the broker and bring it back with nothing in it."""
        self._broker.stop(grace=0)
        self.emptied_at.append(time.time())
        time.sleep(seconds)
        brokers.restart_empty(self._broker)
        self._topics()

    def restart_broker(self, *, seconds: float) -> None:
        """Kill the broker and bring it back with what it held, where it holds anything."""
        self._broker.stop(grace=0)
        time.sleep(seconds)
        self._broker.start()

    def stall_broker(self, *, seconds: float) -> None:
        """Nobody reaches the broker for a while."""
        self._stall(self._broker.pid, seconds)

    def stall_postgres(self, *, seconds: float) -> None:
        """The database stands still for a while, with everything open."""
        self._stall(self._postgres.pid, seconds)

    def restart_postgres(self, *, seconds: float) -> None:
        """The database is killed and comes back."""
        for pid in _family(self._postgres.pid):
            os.kill(pid, signal.SIGKILL)
        self._postgres.stop()
        time.sleep(seconds)
        self._postgres.start()

    def fill_disk(self, *, seconds: float) -> None:
        """The database finds no room for a while; it may end over it, and is started again then."""
        if not self._disk.is_mounted:
            print("           (not arranged: it needs the right to mount)")
            return
        with self._disk.filled():
            time.sleep(seconds)
        if not database_answers(self.database_url):
            self._postgres.stop()
            self._postgres.start()

    def provider_mode(self, mode: str) -> None:
        """How the provider behaves from now on."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._ports['provider']}/control",
            data=json.dumps({"mode": mode}).encode(),
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - ours, on the loopback

    def _stall(self, pid: int, seconds: float) -> None:
        family = _family(pid)
        for each in family:
            os.kill(each, signal.SIGSTOP)
        time.sleep(seconds)
        for each in family:
            os.kill(each, signal.SIGCONT)

    def _topics(self) -> None:
        here = Broker({"bootstrap.servers": self._broker.bootstrap_servers})

        def applied() -> bool:
            try:
                here.apply_topics()
            except KafkaFault:
                return False
            return True

        wait_for(applied, seconds=30)

    def _launch_provider(self) -> None:
        options = {
            "port": self._ports["provider"],
            "journal": self.journal,
            "secret": SECRET,
            "seed": self.seed,
        }
        argv = [sys.executable, "-m", "tests.chaos.provider"]
        argv += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        program = Program(
            name="provider",
            argv=tuple(argv),
            log=self.data_dir / "logs" / "provider.log",
            env=dict(os.environ),
        )
        self._running["provider"] = launch(program)

    def _environment(self, port: int) -> dict[str, str]:
        own = {
            "COMMS_DATA_DIR": str(self.data_dir),
            "COMMS_DATABASE_URL": self.database_url,
            "COMMS_KAFKA_BOOTSTRAP_SERVERS": self._broker.bootstrap_servers,
            "COMMS_URL": self.url,
            "COMMS_SIMULATOR_URL": f"http://127.0.0.1:{self._ports['provider']}",
            "COMMS_SIMULATOR_SECRET": SECRET,
            "COMMS_HTTP_PORT": str(port),
            **{f"COMMS_{name}_CONCURRENCY": str(CONCURRENCY) for name in CHANNELS},
        }
        return {**os.environ, **own}


def _family(pid: int) -> list[int]:
    """A process and its children; PostgreSQL's stand in sessions of their own."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            children.append(int(stat.parent.name))
    return [pid, *children]


def wait_for(true: Callable[[], bool], *, seconds: float) -> None:
    """Wait until it is true.

    Raises:
        TimeoutError: it did not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the system did not come up")
        time.sleep(0.1)


def database_answers(url: str) -> bool:
    """Whether a query is answered."""
    try:
        with psycopg.connect(url, connect_timeout=2) as session:
            session.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
