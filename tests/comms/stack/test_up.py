"""`comms up` as a person meets it: one start seen from all sides, a kill, and a second start."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from comms.platform.kafka import Broker, KafkaUnavailableError
from schemas.topics import TOPICS
from tests.comms.stack.processes import is_running
from tests.waiting import wait_for

START_SECONDS = 180.0  # a bound for a busy machine, not a measure
NAMES = {topic.name for topic in TOPICS}


@dataclass(frozen=True, kw_only=True)
class Running:
    """A `comms up` and what it has said."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def stack(self) -> dict[str, str]:
        return tomllib.loads((self.data_dir / "stack.toml").read_text())

    def children(self) -> dict[str, int]:
        """Process numbers by service or program name."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        named = ((_name_of(int(pid)), int(pid)) for pid in listed.split())
        return {name: pid for name, pid in named if name}

    def status(self, path: str, *, key: str = "") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            return connection.getresponse().status
        finally:
            connection.close()


def _name_of(pid: int) -> str:
    """Nothing for a process that has ended since it was listed."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return ""
    return words[-1] if "comms" in words else Path(words[0]).name


def command(data_dir: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "comms", "up"),
        *("--port", str(port), "--data-dir", str(data_dir)),
    ]


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("COMMS_")}


def eight_free_ports() -> int:
    """The first of eight free ports in a row."""
    for first in range(18080, 28080, 10):
        probes = [socket.socket() for _ in range(8)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no eight free ports in a row")


def start(data_dir: Path, output: Path) -> Running:
    port = eight_free_ports()
    with output.open("wb") as file:
        process = subprocess.Popen(
            command(data_dir, port), stdout=file, stderr=file, env=environment()
        )
    running = Running(process=process, port=port, data_dir=data_dir, output=output)
    wait_for(
        lambda: "Ctrl-C stops" in running.said() or process.poll() is not None,
        seconds=START_SECONDS,
    )
    assert process.poll() is None, running.said()
    return running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    started = start(folder, folder.with_name("first.out"))
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.wait()


def has_topics(bootstrap: str) -> bool:
    try:
        return set(Broker({"bootstrap.servers": bootstrap}).topic_names(2.0)) == NAMES
    except KafkaUnavailableError:
        return False


def test_everything_answers_and_is_private(running: Running) -> None:
    key = (running.data_dir / "api-key").read_text().strip()
    assert key in running.said()
    assert f"http://127.0.0.1:{running.port}" in running.said()
    assert running.status("/v1/messages", key=key) == 200
    assert running.status("/v1/messages", key="ck_wrong") == 401
    assert has_topics(running.stack()["kafka_bootstrap_servers"])
    for name in ("api-key", "stack.toml", "postgres-password"):
        assert (running.data_dir / name).stat().st_mode & 0o077 == 0, name


def test_a_second_one_on_the_folder_says_so_in_a_line(running: Running) -> None:
    second = subprocess.run(
        command(running.data_dir, eight_free_ports()),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert second.returncode != 0
    assert "already runs on" in second.stderr
    assert second.stderr.count("\n") == 1
    assert (running.data_dir / "stack.toml").exists()


def test_a_taken_port_is_named_in_a_line(running: Running, tmp_path: Path) -> None:
    second = subprocess.run(
        command(tmp_path, running.port),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert second.returncode != 0
    assert f"port {running.port} is taken" in second.stderr
    assert second.stderr.count("\n") == 1


def test_a_killed_broker_comes_back_with_the_topics(running: Running) -> None:
    os.kill(running.children()["tansu"], signal.SIGKILL)
    wait_for(lambda: "broker was started again" in running.said())
    wait_for(lambda: has_topics(running.stack()["kafka_bootstrap_servers"]))


def test_a_killed_service_comes_back(running: Running) -> None:
    former = running.children()["relay"]
    os.kill(former, signal.SIGKILL)
    wait_for(lambda: running.children().get("relay", former) != former)


def test_a_kill_leaves_nothing_and_the_next_start_takes_up_the_folder(running: Running) -> None:
    key = (running.data_dir / "api-key").read_text()
    children = running.children()
    running.process.kill()
    running.process.wait()
    wait_for(lambda: not any(is_running(pid) for pid in children.values()))
    again = start(running.data_dir, running.output.with_name("second.out"))
    try:
        assert (running.data_dir / "api-key").read_text() == key
        assert again.status("/v1/messages", key=key.strip()) == 200
        children = again.children()
    finally:
        again.process.send_signal(signal.SIGINT)
        code = again.process.wait()
    assert code == 0, again.said()
    assert "killed" not in again.said()
    assert not (running.data_dir / "stack.toml").exists()
    assert not any(is_running(pid) for pid in children.values())
