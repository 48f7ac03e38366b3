"""Health and metrics for every process: `/healthz`, `/readyz`, `/metrics`.

Services without an HTTP application of their own start a `HealthServer`; the application answers
with `answer`. Both ask the same question: `problems()`, which names what keeps the service from
doing its work, and is empty when nothing does.
"""

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Problems = Callable[[], list[str]]

PATHS = ("/healthz", "/readyz", "/metrics")


class HealthServer:
    """A small HTTP server on a thread of its own.

    Raises:
        OSError: on `start`, when the port is taken.
    """

    def __init__(self, host: str, port: int, problems: Problems) -> None:
        self._host, self._port, self._problems = host, port, problems
        self._server: WSGIServer | None = None

    def start(self) -> None:
        """Begin to answer."""
        self._server = make_server(
            self._host, self._port, self._answer, server_class=_Server, handler_class=_Handler
        )
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        status, kind, body = answer(str(environ["PATH_INFO"]), self._problems)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(f"{status} {'OK' if status == 200 else 'Not OK'}", headers)
        return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds; they are not worth a line."""


def answer(path: str, problems: Problems) -> tuple[int, str, bytes]:
    """(status, content type, body) for one of the three paths."""
    if path == "/healthz":
        return 200, "application/json", b'{"status":"ok"}'
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest()
    if path == "/readyz":
        found = problems()
        body = {"status": "not ready" if found else "ready", "problems": found}
        return (503 if found else 200), "application/json", json.dumps(body).encode()
    return 404, "text/plain", b"try /healthz, /readyz or /metrics\n"
