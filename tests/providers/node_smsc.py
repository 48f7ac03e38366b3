"""The SMSC of `tests/providers/smsc`, which npm fetches and node runs.

`test_smpp_node` starts it. The packages are kept in the environment's folder, once a lock file; a
program that is missing fails the test that needs it.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comms.stack.errors import EngineError
from comms.stack.process import Program, end, free_port, launch, wait_until_ready
from tests.waiting import wait_for

_FOLDER = Path(__file__).with_name("smsc")
_INSTALL_SECONDS, _START_SECONDS = 240.0, 60.0
_BRIEFLY = ("--fetch-timeout=60000", "--fetch-retries=1", "--no-update-notifier")
_QUIETLY = ("--no-audit", "--no-fund", "--loglevel=error")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise EngineError(f"{name} is needed; on Debian and Ubuntu: apt install nodejs npm")
    return found


def _packages() -> Path:
    """Where the packages are; they are installed beside that first, so that they are whole."""
    lock = (_FOLDER / "package-lock.json").read_bytes()
    folder = Path(sys.prefix) / "npm" / f"smsc-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            filled = Path(partial) / "smsc"
            filled.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_FOLDER / name, filled)
            _install(filled)
            if not folder.is_dir():
                filled.replace(folder)
    return folder / "node_modules"


def _install(into: Path) -> None:
    # No package may run anything of its own while it is installed.
    argv = (_program("npm"), "ci", "--ignore-scripts", *_QUIETLY, *_BRIEFLY)
    done = subprocess.run(
        argv,
        cwd=into,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise EngineError(f"npm ci failed: {done.stderr.strip()[:300]}")


class NodeSmsc:
    """A running one, and what it has written down."""

    def __init__(self, port: int, journal: Path) -> None:
        self.port, self._journal = port, journal

    def said(self, **wanted: object) -> list[dict[str, Any]]:
        """Its records that have these values."""
        lines = self._journal.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in records if wanted.items() <= one.items()]

    def submissions(self, to: str) -> list[dict[str, Any]]:
        """What was submitted for a number, in order."""
        return [one for one in self.said(to=to.removeprefix("+")) if "text" in one]

    def wait_for(self, **wanted: object) -> None:
        """Until it has written such a record."""
        wait_for(lambda: bool(self.said(**wanted)), seconds=60, what=f"a record of {wanted}")


@contextmanager
def node_smsc(folder: Path, *, system_id: str, password: str) -> Iterator[NodeSmsc]:
    """An SMSC on a port of its own; its journal is in the folder.

    Raises:
        EngineError: node or npm is missing, or it does not start.
    """
    port = free_port()
    program = Program(
        name="smsc",
        argv=(_program("node"), str(_FOLDER / "server.js"), str(port), system_id, password),
        log=folder / "smsc.log",
        env={"PATH": os.environ.get("PATH", os.defpath), "NODE_PATH": str(_packages())},
    )
    process = launch(program)
    try:
        wait_until_ready(process, program, answers=lambda: _listens(port), timeout=_START_SECONDS)
        yield NodeSmsc(port, program.log)
    finally:
        end(process, with_signal=signal.SIGTERM, grace=5)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
