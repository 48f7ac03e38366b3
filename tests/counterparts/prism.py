"""Prism, which takes a provider's part by the provider's own OpenAPI document.

`test_prism` calls it by our adapters. A request that its document does not allow is answered with
422 and what is wrong with it, one that does not say who calls with 401, and any other with an
example of the document's answer.
"""

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comms.stack.process import Program, end, free_port, launch, wait_until_ready
from tests.counterparts import npm

SECONDS = 30.0  # of starting, on a machine that is busy


class Prism:
    """A server, from `start` to `stop`.

    Args:
        document: what it goes by.
        packages: the folder in which it is installed; folder: for its document and its log.
    """

    def __init__(self, document: Mapping[str, Any], *, packages: Path, folder: Path) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._document, self._folder = document, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._program = Program(
            name="prism",
            argv=(
                *(npm.node(), str(packages / ".bin" / "prism"), "mock"),
                *("--host", "127.0.0.1", "--port", str(self._port), "document.json"),
            ),
            log=folder / "prism.log",
            env={"PATH": os.environ.get("PATH", os.defpath), "NO_COLOR": "1"},
            cwd=folder,
        )

    def start(self) -> None:
        """Start it, and return once it answers.

        Raises:
            EngineError: it does not.
        """
        text = json.dumps(self._document)
        (self._folder / "document.json").write_text(text, encoding="utf-8")
        self._process = launch(self._program)
        wait_until_ready(self._process, self._program, answers=self._listens, timeout=SECONDS)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            end(self._process, with_signal=self._program.stop_signal, grace=5)

    def said_of_requests(self) -> str:
        """What it found wrong with requests, out of its log."""
        lines = self._program.log.read_text(encoding="utf-8").splitlines()
        return "\n".join(line for line in lines if "Violation: request" in line)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True
