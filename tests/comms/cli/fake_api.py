"""A fake of the HTTP API that records what is posted to it.

It implements what the command line depends on: idempotency keys, results in order, problem
documents, and pages by cursor. `refuse_next` makes it answer with errors.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

KEY = "ck_test"
Document = dict[str, Any]


def message_id(number: int) -> str:
    """Return the id of the n-th accepted message, counted from 1."""
    return str(UUID(int=number))


def problem(status: int, title: str, *errors: tuple[str, str]) -> tuple[int, Document]:
    """Return a status code and a problem document as the API writes it."""
    document: Document = {"type": "about:blank", "title": title, "status": status, "detail": title}
    if errors:
        document["errors"] = [{"field": name, "problem": what} for name, what in errors]
    return status, document


@dataclass
class FakeApi:
    """The record of requests, and the answers to come."""

    messages: list[Document] = field(default_factory=list)
    by_key: dict[str, str] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    refuse_next: deque[tuple[int, Document]] = field(default_factory=deque)
    retry_after: str | None = None  # sent with every 429
    unavailable_after: int | None = None  # messages; then every post is answered with 503
    # The answers to GET of a message, one after another; the last one is repeated.
    states: deque[Document] = field(default_factory=deque)
    channels: list[Document] = field(default_factory=list)
    # How many messages match a filter, and the problems of those that cannot be sent again.
    matching: int = 0
    unsendable: dict[str, str] = field(default_factory=dict)
    filters: list[Document] = field(default_factory=list)
    resent: set[tuple[str, str]] = field(default_factory=set)  # run id, message
    resolved: list[tuple[str, str]] = field(default_factory=list)
    on_batch: Callable[[], None] | None = None  # called when a batch arrives
    url: str = ""

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> tuple[int, Document]:
        """Return the status code and the document for one request."""
        if self.on_batch is not None and path == "/v1/messages/batch":
            self.on_batch()
        if self.refuse_next:
            return self.refuse_next.popleft()
        return self._posted(path, body) if method == "POST" else self._got(path, query)

    def _posted(self, path: str, body: Any) -> tuple[int, Document]:
        if self.unavailable_after is not None and len(self.messages) >= self.unavailable_after:
            return problem(503, "Unavailable")
        if path == "/v1/messages":
            return self._accepted(body)
        if path == "/v1/resends":
            return self._resends(body)
        if path.endswith("/resolve"):
            self.resolved.append((path.split("/")[3], body["as"]))
            status = "sending" if body["as"] == "resend" else body["as"]
            return 200, {"id": path.split("/")[3], "status": status, "reason": "resolved"}
        self.batches.append(len(body["messages"]))
        return 202, {"results": [self._result(item) for item in body["messages"]]}

    def _got(self, path: str, query: dict[str, str]) -> tuple[int, Document]:
        if path == "/v1/messages":
            return self._page(query)
        if path == "/v1/channels":
            return 200, {"items": self.channels}
        if path == "/healthz":
            return 200, {"status": "ok"}
        if self.states:
            return 200, self.states.popleft() if len(self.states) > 1 else self.states[0]
        return problem(404, "There is no such message")

    def _accepted(self, body: Document) -> tuple[int, Document]:
        if not body.get("body") and not body.get("text"):
            return problem(422, "The request is not valid", ("body", "is required"))
        key = body.get("idempotency_key")
        existing = self.by_key.get(key) if key else None
        if existing is not None:
            return 200, {"id": existing, "status": "pending"}
        self.messages.append(body)
        created = message_id(len(self.messages))
        if key:
            self.by_key[key] = created
        return 202, {"id": created, "status": "pending"}

    def _resends(self, body: Document) -> tuple[int, Document]:
        self.filters.append(dict(body))
        if "colour" in body["where"]:
            error = "at character 1: there is no colour"
            return problem(422, "The request is not valid", ("where", error))
        matching = [message_id(n) for n in range(self.matching, 0, -1)]
        if body.get("dry_run"):
            groups = [{"status": "failed", "reason": "rejected", "count": len(matching)}]
            first = [message(n, "failed") for n in range(self.matching, 0, -1)][:5]
            preview = {"count": len(matching), "groups": groups if matching else [], "first": first}
            return 200, preview
        begin, limit = int(body.get("cursor", 0)), body["limit"]
        items = [self._resent(body["nonce"], id_) for id_ in matching[begin : begin + limit]]
        next_cursor = str(begin + limit) if begin + limit < len(matching) else None
        return 200, {"nonce": body["nonce"], "items": items, "next_cursor": next_cursor}

    def _resent(self, run: str, id_: str) -> Document:
        if id_ in self.unsendable:
            return {"id": id_, "result": "forgotten", "problem": self.unsendable[id_]}
        result = "known" if (run, id_) in self.resent else "queued"
        self.resent.add((run, id_))
        return {"id": id_, "result": result, "problem": None}

    def _result(self, item: Document) -> Document:
        status, document = self._accepted(item)
        if status == 422:
            return {"error": document}
        return {**document, "replayed": status == 200}

    def _page(self, query: dict[str, str]) -> tuple[int, Document]:
        self.queries.append(query)
        newest = [message(n) for n in range(len(self.messages), 0, -1)]
        begin, limit = int(query.get("cursor", 0)), int(query["limit"])
        end = begin + limit
        next_cursor = str(end) if end < len(newest) else None
        return 200, {"items": newest[begin:end], "next_cursor": next_cursor}


def message(number: int, *statuses: str, **fields: Any) -> Document:
    """Return a message that has gone through these statuses, as the API answers it by id."""
    events = [event(number, n, status) for n, status in enumerate(statuses or ("pending",))]
    return {
        "id": message_id(number),
        "tenant": "default",
        "channel": "sms",
        "to": "+12025550100",
        "status": events[-1]["status"],
        "reason": events[-1]["reason"],
        "provider": None,
        "provider_message_id": None,
        "attempts": 0,
        "customer_id": None,
        "workflow": None,
        "priority": "normal",
        "created_at": "2030-01-31T09:00:00Z",
        "updated_at": "2030-01-31T09:00:00Z",
        "metadata": {},
        "events": events,
        **fields,
    }


def event(number: int, n: int, status: str) -> Document:
    """Return the n-th event of a message."""
    return {
        "id": f"{number}-{n}",
        "status": status,
        "reason": "accepted",
        "attempt": 1,
        "provider": "simulated",
        "provider_message_id": None,
        "code": None,
        "detail": f"detail {n}",
        "response": None,
        "occurred_at": "2030-01-31T09:00:00Z",
        "recorded_at": "2030-01-31T09:00:00Z",
    }


@contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """Serve the API on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_GET(self) -> None:
            self._respond(None)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._respond(json.loads(self.rfile.read(length)))

        def _respond(self, body: Any) -> None:
            target = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(target.query).items()}
            is_allowed = self.headers["Authorization"] == f"Bearer {KEY}"
            is_allowed = is_allowed or target.path == "/healthz"
            status, document = (
                api.answer(self.command, target.path, query, body)
                if is_allowed
                else problem(401, "Send a valid API key")
            )
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429 and api.retry_after is not None:
                self.send_header("Retry-After", api.retry_after)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the tests look at the record."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
