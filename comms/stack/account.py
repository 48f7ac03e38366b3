"""The operating system account that PostgreSQL runs under, since it refuses to run as root.

`comms.stack.postgres` asks for it once. For an ordinary user that is the user; for root it is an
existing unprivileged account, entered with `setpriv`. Where programs or data lie below a folder
that only root may enter (`/root`, say), the account is lent the one capability that opens folders
for reading, rather than changing the permissions of somebody's machine.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from comms.stack.errors import EngineError

_CANDIDATES = ("postgres", "nobody")
_LENT = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@dataclass(frozen=True)
class Account:
    """Whom files belong to (None: whoever we are) and the words before a command."""

    owner: tuple[int, int] | None
    prefix: tuple[str, ...] = ()

    def give(self, path: Path) -> None:
        """Make the account the owner of a path that we created."""
        if self.owner is not None:
            os.chown(path, *self.owner)

    def command(self, argv: Sequence[str], *, orphan_signal: Signals) -> tuple[str, ...]:
        """The command line that runs argv under the account."""
        if self.owner is None:
            return tuple(argv)
        # Changing the account makes the kernel forget what a parent's death shall do.
        death = f"--pdeathsig={orphan_signal.name.removeprefix('SIG')}"
        return (*self.prefix, death, *argv)


def account_for_postgres(*, program: Path, data_dir: Path) -> Account:
    """The account that can run `program` and keep its files in `data_dir`."""
    if os.geteuid() != 0:
        return Account(owner=None)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EngineError(
            "PostgreSQL does not run as root and 'setpriv' (package util-linux) is not here to "
            "run it as another account; run this as an ordinary user"
        )
    entry = _unprivileged()
    owner = (entry.pw_uid, entry.pw_gid)
    plain = (setpriv, f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups")
    for prefix in (plain, (*plain, *_LENT)):
        if _can_use(prefix, program=program, data_dir=data_dir):
            return Account(owner, prefix)
    raise EngineError(
        f"PostgreSQL does not run as root, and account '{entry.pw_name}' may not enter "
        f"{data_dir} or {program.parent}; choose a --data-dir it may enter, "
        "or run this as an ordinary user"
    )


def _unprivileged() -> pwd.struct_passwd:
    for name in _CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EngineError(
        "PostgreSQL does not run as root and this machine has no account 'postgres' or 'nobody'; "
        "run this as an ordinary user"
    )


def _can_use(prefix: Sequence[str], *, program: Path, data_dir: Path) -> bool:
    """Whether the program runs and the folder is reached, tried rather than reasoned about."""
    tries = ([*prefix, str(program), "--version"], [*prefix, "ls", str(data_dir)])
    return all(
        subprocess.run(argv, capture_output=True, check=False, cwd="/").returncode == 0  # noqa: S603
        for argv in tries
    )
