"""Health and metrics of every process: `/healthz`, `/readyz`, `/metrics`.

A service without an HTTP application starts a `HealthServer`; the application calls `respond`. Both
call the `problems` function of the service. It returns what prevents the service from working, and
an empty list if the service is ready.
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
    """A small HTTP server on a thread of its own."""

    def __init__(self, host: str, port: int, problems: Problems) -> None:
        self._host = host
        self._port = port
        self._problems = problems
        self._server: WSGIServer | None = None

    def start(self) -> None:
        """Listen on the port and answer requests.

        Raises:
            OSError: the port is in use.
        """
        self._server = make_server(
            self._host, self._port, self._respond, server_class=_Server, handler_class=_Handler
        )
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _respond(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        status, content_type, body = respond(str(environ["PATH_INFO"]), self._problems)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response(f"{status} {'OK' if status == 200 else 'Not OK'}", headers)
        return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes arrive every few seconds."""


def respond(path: str, problems: Problems) -> tuple[int, str, bytes]:
    """Return the HTTP status, the content type and the body for a path.

    A path that is none of `PATHS` is answered with 404.
    """
    if path == "/healthz":
        return 200, "application/json", b'{"status":"ok"}'
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest()
    if path == "/readyz":
        current = problems()
        body = {"status": "not ready" if current else "ready", "problems": current}
        return (503 if current else 200), "application/json", json.dumps(body).encode()
    return 404, "text/plain", b"try /healthz, /readyz or /metrics\n"
