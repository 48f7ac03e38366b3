"""An HTTP provider of text messages on a free port of loopback: it accepts messages, or misbehaves.

A `Fault` is what it does instead of accepting. It keeps a record of its calls, and of the messages
that it may have sent, which is what a person would have received.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_NUMBER = re.compile(r"1212\d{7}")
ACCEPTED = 202


@dataclass(frozen=True, slots=True)
class Fault:
    """What a provider does instead of accepting a message.

    Args:
        respond: answers the call, or does not.
        may_send: whether a person may have received the message all the same.
    """

    name: str
    respond: Callable[["Call"], None]
    may_send: bool = False


class FakeProvider(ThreadingHTTPServer):
    """One provider. Without a `fault` it accepts every message.

    Attributes:
        calls: how often it was called for a number, since `reset`.
        sent: how often it may have sent to a number.
        keys: the idempotency keys that came with a number.
        invalid_numbers: numbers that it refuses with `refusal`.
    """

    daemon_threads = True
    request_queue_size = 100
    block_on_close = False
    fault: Fault | None

    def __init__(self, name: str, refusal: str) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.name = name
        self.refusal = refusal
        self.fault = None
        self.is_closing = threading.Event()
        self.invalid_numbers: frozenset[str] = frozenset()
        self.reset()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def reset(self) -> None:
        """Begin a new record."""
        self.calls: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.keys: dict[str, set[str | None]] = {}
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that has disconnected."""


class Call(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    def do_GET(self) -> None:
        self.answer(200, {})

    def do_POST(self) -> None:
        provider = self.provider
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        match = _NUMBER.search(body)
        if match is None:  # a probe of the account
            self.answer(422, {"type": "https://developer.vonage.com/api-errors/messages#1010"})
            return
        number, fault = f"+{match.group()}", provider.fault
        with provider.lock:
            provider.calls[number] += 1
            provider.keys.setdefault(number, set()).add(self.headers["Idempotency-Key"])
            if number in provider.invalid_numbers:
                fault = Fault("refused", lambda call: call.answer(422, provider.refusal))
            provider.sent[number] += fault is None or fault.may_send
        if fault is None:
            self.accept()
        else:
            fault.respond(self)

    @property
    def provider(self) -> FakeProvider:
        assert isinstance(self.server, FakeProvider)
        return self.server

    def log_message(self, format: str, *args: object) -> None: ...

    def accept(self) -> None:
        """Answer with the ids that the different providers have."""
        message_id = f"{self.provider.name}-{self.provider.calls.total()}"
        self.answer(
            ACCEPTED, {"sid": message_id, "message_uuid": message_id, "data": {"id": message_id}}
        )

    def answer(self, status: int, value: object, **headers: str) -> None:
        body = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def write(self, raw: bytes) -> None:
        """Write bytes that are not a valid answer."""
        self.wfile.write(raw)
        self.close_connection = True

    def wait(self, seconds: float | None = None) -> None:
        """Answer nothing for so long, or until the test is over."""
        self.provider.is_closing.wait(seconds)


@contextmanager
def running_provider(name: str, refusal: object) -> Iterator[FakeProvider]:
    """Run a provider; `refusal` is its answer for a number that does not exist."""
    server = FakeProvider(name, json.dumps(refusal))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.is_closing.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
