"""The SMSC of `tests/consumers/sms/smsc`, which npm fetches and node runs.

`test_smpp_node` starts it; a program that is missing fails the test that needs it.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comms.stack.process import Program, end, free_port, launch, wait_until_ready
from tests.counterparts import npm
from tests.waiting import wait_for

_FOLDER = Path(__file__).with_name("smsc")
_START_SECONDS = 60.0


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
        argv=(npm.node(), str(_FOLDER / "server.js"), str(port), system_id, password),
        log=folder / "smsc.log",
        env={"PATH": os.environ.get("PATH", os.defpath), "NODE_PATH": str(npm.installed(_FOLDER))},
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
