"""Apple's push service in `apns.js`, on node's HTTP/2: started, asked what it saw, and ended.

`test_apns` calls it by our adapter, over TLS as Apple's own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comms.stack.process import free_port
from tests.counterparts import npm
from tests.counterparts.running import Running

_SCRIPT = Path(__file__).with_name("apns.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What it proves itself by, and the key by which it proves who calls: all PEM."""

    key: Path
    cert: Path
    public: Path


class Apple(Running):
    """A server.

    Args:
        topic: of the app.
        at_once: calls that it takes on a connection at a time, once one has proved who calls.
    """

    def __init__(self, files: Files, folder: Path, *, topic: str, at_once: int = 100) -> None:
        port = free_port()
        self.url = f"https://localhost:{port}"
        settings = {
            **{name: str(getattr(files, name)) for name in ("key", "cert", "public")},
            **{"port": port, "topic": topic, "atOnce": at_once},
        }
        argv = (npm.node(), str(_SCRIPT), json.dumps(settings))
        super().__init__("apns", argv, folder=folder, answers=lambda: bool(self._told()))

    @property
    def sessions(self) -> int:
        """Connections that were made to it."""
        return sum("session" in line for line in self._told())

    @property
    def asked(self) -> list[str]:
        """Device tokens, in the order in which notifications for them came."""
        paths = [str(line["path"]) for line in self._told() if "path" in line]
        return [path.removeprefix("/3/device/") for path in paths]

    @property
    def most_open(self) -> int:
        """Calls that it had open on a connection at a time, at most."""
        return max(int(line["open"]) for line in self._told() if "open" in line)

    def _told(self) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in self.said() if line.startswith("{")]
