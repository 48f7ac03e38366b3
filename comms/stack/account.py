"""The operating system account of the embedded PostgreSQL, which refuses to run as root.

`comms.stack.postgres` chooses the account before it touches the cluster. An ordinary user needs
none: PostgreSQL runs as that user. For root it is the owner of the existing cluster, otherwise the
account `postgres` or `nobody`. No capability is passed on to it and no permission of the machine
is changed: `comms.stack.programs` finds programs that the account can run, and the server reaches
its data through the working directory that it inherits (ADR 12).
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from comms.stack.errors import EngineError

_CANDIDATES = ("postgres", "nobody")
_USE_ANOTHER = "run this command as an ordinary user"

# The kernel resolves this link without walking the path, so the parents need not be accessible.
WORKING_DIRECTORY = Path("/proc/self/cwd")


@dataclass(frozen=True)
class SystemAccount:
    """A user and a group of the operating system that a child process runs as."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The name of the user, or its number if it has no entry."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def own(self, path: Path) -> None:
        """Make the account the owner of a path.

        Raises:
            EngineError: the system does not allow it, in a restricted container for example.
        """
        try:
            os.chown(path, self.uid, self.gid)
        except OSError as error:
            raise EngineError(
                f"PostgreSQL does not run as root, and {path} cannot be given to account "
                f"'{self.name}': {error.strerror}; {_USE_ANOTHER}"
            ) from error


def account_for_postgres(cluster: Path) -> SystemAccount | None:
    """Choose the account that runs PostgreSQL on a cluster.

    Returns:
        None for an ordinary user, who runs it directly.

    Raises:
        EngineError: we are root, and there is no account to use.
    """
    if os.geteuid() != 0:
        return None
    if not WORKING_DIRECTORY.exists():
        raise EngineError(
            f"PostgreSQL does not run as root, and this machine has no {WORKING_DIRECTORY} "
            f"through which another account could reach the data; {_USE_ANOTHER}"
        )
    return _owner_of(cluster) or _unprivileged()


def _owner_of(cluster: Path) -> SystemAccount | None:
    """PostgreSQL accepts a cluster from its owner only."""
    if not cluster.exists():
        return None
    status = cluster.stat()
    return SystemAccount(status.st_uid, status.st_gid) if status.st_uid != 0 else None


def _unprivileged() -> SystemAccount:
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemAccount(entry.pw_uid, entry.pw_gid)
    raise EngineError(
        "PostgreSQL does not run as root, and this machine has no account 'postgres' or 'nobody'; "
        f"{_USE_ANOTHER}"
    )
