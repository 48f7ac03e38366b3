"""`comms up` end to end: one start checked from all sides, a kill, and a second start."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from comms.platform.kafka import Broker, KafkaUnavailableError
from schemas.topics import TOPICS
from tests.comms.stack.processes import is_running
from tests.comms.stack.running import Running, command, eight_free_ports, environment, start
from tests.waiting import wait_for

TOPIC_NAMES = {topic.name for topic in TOPICS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of this module's stack."""
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    """A stack that all tests of this module share."""
    started = start(folder, folder.with_name("first.out"))
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.wait()


def has_topics(bootstrap: str) -> bool:
    """Return whether the broker has exactly our topics."""
    try:
        return set(Broker({"bootstrap.servers": bootstrap}).list_topics(2.0)) == TOPIC_NAMES
    except KafkaUnavailableError:
        return False


def test_everything_answers_and_secrets_are_private(running: Running) -> None:
    key = (running.data_dir / "api-key").read_text().strip()
    assert key in running.output()
    assert f"http://127.0.0.1:{running.port}" in running.output()
    assert running.status("/v1/messages", key=key) == 200
    assert running.status("/v1/messages", key="ck_wrong") == 401
    assert has_topics(running.stack()["kafka_bootstrap_servers"])
    for name in ("api-key", "stack.toml", "postgres-password"):
        assert (running.data_dir / name).stat().st_mode & 0o077 == 0, name


def test_a_second_stack_on_the_folder_ends_with_one_line(running: Running) -> None:
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


def test_a_taken_port_ends_with_one_line(running: Running, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("parent", ["/proc", __file__])
def test_an_unusable_data_folder_ends_with_one_line(parent: str) -> None:
    data_dir = Path(parent, "data")
    refused = subprocess.run(
        command(data_dir, eight_free_ports()),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert refused.returncode != 0
    assert f"the data folder {data_dir} cannot be used: " in refused.stderr
    assert "--data-dir" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_killed_broker_restarts_and_gets_its_topics(running: Running) -> None:
    os.kill(running.children()["tansu"], signal.SIGKILL)
    wait_for(lambda: "broker was restarted" in running.output())
    wait_for(lambda: has_topics(running.stack()["kafka_bootstrap_servers"]))


def test_a_killed_service_restarts(running: Running) -> None:
    former = running.children()["relay"]
    os.kill(former, signal.SIGKILL)
    wait_for(lambda: running.children().get("relay", former) != former)


def test_a_killed_stack_leaves_no_process_and_the_next_start_reuses_the_folder(
    running: Running,
) -> None:
    key = (running.data_dir / "api-key").read_text()
    children = running.children()
    running.process.kill()
    running.process.wait()
    wait_for(lambda: not any(is_running(pid) for pid in children.values()))
    again = start(running.data_dir, running.log.with_name("second.out"))
    try:
        assert (running.data_dir / "api-key").read_text() == key
        assert again.status("/v1/messages", key=key.strip()) == 200
        children = again.children()
    finally:
        code = again.interrupt()
    assert code == 0, again.output()
    assert "killed" not in again.output()
    assert not (running.data_dir / "stack.toml").exists()
    assert not any(is_running(pid) for pid in children.values())
