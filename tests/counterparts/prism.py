"""Prism, which takes a provider's part by the provider's own OpenAPI document.

`test_prism` calls it by our adapters. A request that its document does not allow is answered with
the document's own error, or 422 and what is wrong with it; one that does not say who calls with
401; and any other with an example of the document's answer.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comms.stack.process import free_port
from tests.counterparts import npm
from tests.counterparts.running import Running, listens


class Prism(Running):
    """A server.

    Args:
        document: what it goes by.
        packages: the folder in which it is installed; folder: for its document and its log.
    """

    def __init__(self, document: Mapping[str, Any], *, packages: Path, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        argv = (
            *(npm.node(), str(packages / ".bin" / "prism"), "mock"),
            *("--host", "127.0.0.1", "--port", str(port), "document.json"),
        )
        super().__init__("prism", argv, folder=folder, answers=lambda: listens(port))
        (folder / "document.json").write_text(json.dumps(document), encoding="utf-8")

    def said_of_requests(self) -> str:
        """What it found wrong with requests."""
        return "\n".join(line for line in self.said() if "Violation: request" in line)
