"""Apple's push service in `apns.js`, on node's HTTP/2: started, asked what it saw, and ended.

`test_apns` calls it by our adapter, over TLS as Apple's own.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comms.stack.process import Program, end, free_port, launch, wait_until_ready
from tests.counterparts import npm

SECONDS = 20.0  # of starting
_SCRIPT = Path(__file__).with_name("apns.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What it proves itself by, and the key by which it proves who calls: all PEM."""

    key: Path
    cert: Path
    public: Path


class Apple:
    """A server, from `start` to `stop`.

    Args:
        topic: of the app; at_once: calls that it takes on a connection at a time.
    """

    def __init__(self, files: Files, folder: Path, *, topic: str, at_once: int = 100) -> None:
        port = free_port()
        self.url = f"https://localhost:{port}"
        settings = {
            **{name: str(getattr(files, name)) for name in ("key", "cert", "public")},
            **{"port": port, "topic": topic, "atOnce": at_once},
        }
        self._program = Program(
            name="apns.js",
            argv=(npm.node(), str(_SCRIPT), json.dumps(settings)),
            log=folder / "apns.log",
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it listens.

        Raises:
            EngineError: it does not.
        """
        self._process = launch(self._program)
        wait_until_ready(
            self._process, self._program, answers=lambda: bool(self._said()), timeout=SECONDS
        )

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            end(self._process, with_signal=self._program.stop_signal, grace=5)

    @property
    def sessions(self) -> int:
        """Connections that were made to it."""
        return sum("session" in line for line in self._said())

    @property
    def asked(self) -> list[str]:
        """Device tokens, in the order in which notifications for them came."""
        paths = [str(line["path"]) for line in self._said() if "path" in line]
        return [path.removeprefix("/3/device/") for path in paths]

    def _said(self) -> list[Mapping[str, Any]]:
        text = self._program.log.read_text(encoding="utf-8") if self._program.log.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
