"""The embedded engines: they start, stop, and start again after a kill."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from comms.platform.kafka import Broker
from comms.stack.broker import EmbeddedBroker
from comms.stack.errors import EngineError
from comms.stack.postgres import EmbeddedPostgres
from schemas.topics import TOPICS
from tests.comms.stack.processes import is_running
from tests.waiting import wait_for

NO_FSYNC = {"fsync": "off"}


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A running server on an empty data folder."""
    engine = EmbeddedPostgres(tmp_path, settings=NO_FSYNC)
    engine.start()
    yield engine
    engine.stop()


def read_number(url: str) -> int:
    """Read back the number that `store_number` stored."""
    with psycopg.connect(url) as session:
        row = session.execute("SELECT n FROM stored").fetchone()
        assert row is not None
        return int(row[0])


def store_number(url: str, number: int) -> None:
    """Store a number in a new table."""
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE stored AS SELECT %s::int AS n", [number])


def test_the_broker_answers_and_keeps_nothing_after_a_stop(tmp_path: Path) -> None:
    engine = EmbeddedBroker(tmp_path)
    engine.start()
    cluster = Broker({"bootstrap.servers": engine.bootstrap_servers})
    assert cluster.list_topics() == {}
    cluster.apply_topics()
    assert set(cluster.list_topics()) == {topic.name for topic in TOPICS}
    engine.stop()
    assert not engine.answers()
    engine.start()
    assert cluster.list_topics() == {}
    engine.stop()


def test_another_server_on_the_port_is_an_error(tmp_path: Path) -> None:
    first = EmbeddedPostgres(tmp_path / "first", settings=NO_FSYNC)
    first.start()
    second = EmbeddedPostgres(tmp_path / "second", settings=NO_FSYNC, port=first.port)
    with pytest.raises(EngineError, match="another server answers"):
        second.start()
    first.stop()


def test_the_database_is_durable_and_private(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    store_number(postgres.url, 7)
    assert (tmp_path / "postgres-password").stat().st_mode & 0o777 == 0o600
    with psycopg.connect(postgres.url) as session:
        shown = [
            session.execute(f"SHOW {name}").fetchone()
            for name in ("listen_addresses", "unix_socket_directories", "synchronous_commit")
        ]
    assert shown == [("127.0.0.1",), ("",), ("on",)]
    postgres.stop()
    again = EmbeddedPostgres(tmp_path, settings=NO_FSYNC)
    again.start()
    assert read_number(again.url) == 7
    again.stop()


def test_a_wrong_password_is_refused(postgres: EmbeddedPostgres) -> None:
    url = postgres.url.replace(":", ":wrong", 2).replace(":wrong//", "://")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_the_log_contains_no_values(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as session:
        session.execute("CREATE TABLE once (value text PRIMARY KEY)")
        session.execute("INSERT INTO once VALUES ('+12025550100')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            session.execute("INSERT INTO once VALUES ('+12025550100')")
    log = (tmp_path / "logs" / "postgres.log").read_text()
    assert "duplicate key value" in log
    assert "+12025550100" not in log


def test_a_stale_lock_file_with_a_reused_process_id_is_removed(tmp_path: Path) -> None:
    engine = EmbeddedPostgres(tmp_path, settings=NO_FSYNC)
    engine.start()
    lock = tmp_path / "postgres" / "cluster" / "postmaster.pid"
    stale = lock.read_text().split("\n")
    store_number(engine.url, 3)
    engine.stop()
    lock.write_text("\n".join([str(os.getpid()), *stale[1:]]))
    engine.start()
    assert read_number(engine.url) == 3
    engine.stop()


OWNER = """
import sys, time
from pathlib import Path
from comms.stack.broker import EmbeddedBroker
from comms.stack.postgres import EmbeddedPostgres
broker = EmbeddedBroker(Path(sys.argv[1])); broker.start()
postgres = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}); postgres.start()
print(broker._process.pid, postgres._process.pid, postgres.url, flush=True)
time.sleep(600)
"""


def test_engines_end_with_a_killed_parent_and_the_data_survives(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout:
        broker_pid, postgres_pid, url = owner.stdout.readline().decode().split()
    store_number(url, 11)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    engine = EmbeddedPostgres(tmp_path, settings=NO_FSYNC)
    engine.start()
    assert read_number(engine.url) == 11
    engine.stop()
    wait_for(lambda: not is_running(int(broker_pid)))
    wait_for(lambda: not is_running(int(postgres_pid)))


def test_a_killed_server_starts_again(tmp_path: Path) -> None:
    engine = EmbeddedPostgres(tmp_path, settings=NO_FSYNC)
    engine.start()
    store_number(engine.url, 5)
    engine.stop(grace=0)
    engine.start()
    assert read_number(engine.url) == 5
    engine.stop()


def test_an_interrupted_first_start_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "cluster.partial" / "base").mkdir(parents=True)
    engine = EmbeddedPostgres(tmp_path, settings=NO_FSYNC)
    engine.start()
    assert engine.answers()
    engine.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test tests this for an ordinary user")
def test_an_ordinary_user_starts_both(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path("/tmp") / f"comms-test-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    script = OWNER.replace("time.sleep(600)", "assert postgres.answers(); postgres.stop()")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    try:
        result = subprocess.run(
            [*command, sys.executable, "-c", script, str(home)],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
        )
        assert result.returncode == 0, result.stderr
        assert (home / "postgres").stat().st_uid == 65534
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)


def test_tests_get_a_migrated_database_and_topics(database_url: str, broker: Broker) -> None:
    with psycopg.connect(database_url) as session:
        row = session.execute("SELECT to_regclass('producer.outbox')").fetchone()
    assert row == ("producer.outbox",)
    assert set(broker.list_topics()) >= {topic.name for topic in TOPICS}
