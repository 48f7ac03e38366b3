"""The whole system with every service as a process, as in a deployment, and the ways to break it.

The chaos run's main thread calls everything here. The processes end when that thread ends.
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
CONCURRENCY = 24  # high enough that messages also wait inside a process that is killed
SECRET = "chaos-secret"


class World:
    """The engines, the provider and the services.

    Args:
        data_dir: the folder for data, logs and journals. It must not exist.
        seed: seeds the provider's behaviour.
        plant: the name of a bug from `tests.chaos.planted` to plant in the services.
        kafka: the broker to run on.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        seed: int,
        plant: str | None = None,
        kafka: brokers.BrokerKind = brokers.BrokerKind.EMBEDDED,
    ) -> None:
        self.data_dir = data_dir
        self.seed = seed
        self._plant = plant
        self.journal = data_dir / "journal.jsonl"
        self.answers = data_dir / "answers.jsonl"
        self.front_door = data_dir / "front-door.jsonl"
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
        """Base URL of the app."""
        return f"http://127.0.0.1:{self._ports['app-1']}"

    @property
    def bootstrap_servers(self) -> str:
        """Address of the broker."""
        return self._broker.bootstrap_servers

    @property
    def database_url(self) -> str:
        """Address of the database."""
        return self._postgres.url

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        # Fails if the folder exists, so that files of an earlier run are not read as this run's.
        self.data_dir.mkdir(parents=True)
        self._disk.mount()
        self._broker.start()
        self._apply_topics()
        self._postgres.start()
        upgrade(self.database_url)
        self.key = folder.ensure_api_key(self.data_dir, self.database_url)
        self._launch_provider()
        for name in START:
            self.begin(name)
        wait_for(lambda: all(self.is_ready(name) for name in START), seconds=60)

    def stop(self) -> None:
        """Stop everything."""
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            end(process, with_signal=signal.SIGKILL, grace=1)
        self._postgres.stop()
        self._broker.stop()
        self._disk.unmount()

    # Services

    def begin(self, name: str) -> None:
        """Start a process of a service. `sms-2` is the second one of the SMS channel."""
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
        """Whether the service reports that it is ready."""
        return is_ready(self._ports[name])

    def kill(self, name: str) -> None:
        """Kill a service, as when its machine fails."""
        self._running[name].kill()
        self._running[name].wait()

    def drain(self, name: str) -> None:
        """Stop a service gracefully, as a deployment does."""
        end(self._running[name], with_signal=signal.SIGTERM, grace=30)

    def freeze(self, name: str) -> None:
        """Suspend a service's process."""
        self._running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Resume a suspended process. It does not notice that time has passed."""
        self._running[name].send_signal(signal.SIGCONT)

    # Engines and the provider

    def empty_broker(self, *, seconds: float) -> None:
        """Kill the broker and restart it without its data."""
        self._broker.stop(grace=0)
        self.emptied_at.append(time.time())
        time.sleep(seconds)
        brokers.restart_empty(self._broker)
        self._apply_topics()

    def restart_broker(self, *, seconds: float) -> None:
        """Kill the broker and restart it with its data, if it keeps any."""
        self._broker.stop(grace=0)
        time.sleep(seconds)
        self._broker.start()

    def stall_broker(self, *, seconds: float) -> None:
        """Suspend the broker for a while. Its connections stay open."""
        self._stall(self._broker.pid, seconds)

    def stall_postgres(self, *, seconds: float) -> None:
        """Suspend the database for a while. Its connections stay open."""
        self._stall(self._postgres.pid, seconds)

    def restart_postgres(self, *, seconds: float) -> None:
        """Kill the database and restart it."""
        for pid in _with_children(self._postgres.pid):
            os.kill(pid, signal.SIGKILL)
        self._postgres.stop()
        time.sleep(seconds)
        self._postgres.start()

    def fill_disk(self, *, seconds: float) -> None:
        """Leave the database no disk space for a while. Restart it if it stopped."""
        if not self._disk.is_mounted:
            print("           (skipped: filling the disk needs the right to mount)")
            return
        with self._disk.filled():
            time.sleep(seconds)
        if not database_answers(self.database_url):
            self._postgres.stop()
            self._postgres.start()

    def provider_mode(self, mode: str) -> None:
        """Set how the provider behaves from now on."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._ports['provider']}/control",
            data=json.dumps({"mode": mode}).encode(),
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - ours, on the loopback

    def _stall(self, pid: int, seconds: float) -> None:
        pids = _with_children(pid)
        for each in pids:
            os.kill(each, signal.SIGSTOP)
        time.sleep(seconds)
        for each in pids:
            os.kill(each, signal.SIGCONT)

    def _apply_topics(self) -> None:
        broker = Broker({"bootstrap.servers": self._broker.bootstrap_servers})

        def is_applied() -> bool:
            try:
                broker.apply_topics()
            except KafkaFault:
                return False
            return True

        wait_for(is_applied, seconds=30)

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


def _with_children(pid: int) -> list[int]:
    """The ids of a process and its children.

    PostgreSQL's children have sessions of their own, so a signal to its process group misses them.
    """
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            children.append(int(stat.parent.name))
    return [pid, *children]


def wait_for(condition: Callable[[], bool], *, seconds: float) -> None:
    """Poll until `condition` is true.

    Raises:
        TimeoutError: `condition` was still false after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the system did not recover within {seconds:g} s")
        time.sleep(0.1)


def database_answers(url: str) -> bool:
    """Whether the database answers a query."""
    try:
        with psycopg.connect(url, connect_timeout=2) as session:
            session.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
