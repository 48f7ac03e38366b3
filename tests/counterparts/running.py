"""A counterpart that is a process of its own, from `start` to `stop`.

`apple`, `moto` and `prism` say what is to be run and how it is seen to answer. It ends with us,
whatever becomes of us.
"""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from comms.stack.errors import EngineError
from comms.stack.process import Program, end, launch, wait_until_ready

SECONDS = 30.0  # of starting, on a machine that is busy


class Running:
    """The process.

    Args:
        argv: what is run, in `folder`, where its log is kept too.
        answers: whether it answers now.
    """

    def __init__(
        self, name: str, argv: tuple[str, ...], *, folder: Path, answers: Callable[[], bool]
    ) -> None:
        self._program = Program(
            name=name,
            argv=argv,
            log=folder / f"{name}.log",
            env={"PATH": os.environ.get("PATH", os.defpath), "NO_COLOR": "1"},
            cwd=folder,
        )
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it answers.

        Raises:
            EngineError: it does not.
        """
        self._process = launch(self._program)
        try:
            wait_until_ready(self._process, self._program, answers=self._answers, timeout=SECONDS)
        except EngineError:
            self.stop()
            raise

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            end(self._process, with_signal=self._program.stop_signal, grace=5)
            self._process = None

    def said(self) -> list[str]:
        """The lines of its log that are whole."""
        log = self._program.log
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
