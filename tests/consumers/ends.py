"""The provider's end of text messages, on a free port of loopback: it takes them, or misbehaves.

`Fault`s are what it does instead; it keeps a record of what it was asked, and of what it may have
carried out, which is what a person would have received.
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
TAKEN = 202


@dataclass(frozen=True, slots=True)
class Fault:
    """What an end does instead of taking a message.

    Args:
        may_send: somebody may have received the message all the same.
    """

    name: str
    do: Callable[["Asked"], None]
    may_send: bool = False


class End(ThreadingHTTPServer):
    """One provider's; without a `fault` it takes every message, but refuses numbers on `refuses`.

    Attributes:
        asked: how often it was asked to send to a number, since `forget`.
        sent: how often it may have sent to one.
        keys: idempotency keys that came with a number.
    """

    daemon_threads = True
    request_queue_size = 100
    block_on_close = False

    def __init__(self, name: str, refusal: str) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.name, self.refusal, self.fault = name, refusal, None
        self.over = threading.Event()
        self.refuses: frozenset[str] = frozenset()
        self.forget()

    fault: Fault | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def forget(self) -> None:
        """Begin the record anew."""
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.keys: dict[str, set[str | None]] = {}
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone."""


class Asked(BaseHTTPRequestHandler):
    """One request, and what can be done with it."""

    def do_GET(self) -> None:
        self.say(200, {})

    def do_POST(self) -> None:
        end = self.end
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        found = _NUMBER.search(body)
        if found is None:  # a probe of the account
            self.say(422, {"type": "https://developer.vonage.com/api-errors/messages#1010"})
            return
        number, fault = f"+{found.group()}", end.fault
        with end.lock:
            end.asked[number] += 1
            end.keys.setdefault(number, set()).add(self.headers["Idempotency-Key"])
            if number in end.refuses:
                fault = Fault("refused", lambda asked: asked.say(422, end.refusal))
            end.sent[number] += fault is None or fault.may_send
        if fault is None:
            self.take()
        else:
            fault.do(self)

    @property
    def end(self) -> End:
        assert isinstance(self.server, End)
        return self.server

    def log_message(self, format: str, *args: object) -> None: ...

    def take(self) -> None:
        """Answer as each of the providers does."""
        one = f"{self.end.name}-{self.end.asked.total()}"
        self.say(TAKEN, {"sid": one, "message_uuid": one, "data": {"id": one}})

    def say(self, status: int, value: object, **headers: str) -> None:
        body = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def write(self, raw: bytes) -> None:
        """Bytes that are no answer."""
        self.wfile.write(raw)
        self.close_connection = True

    def wait(self, seconds: float | None = None) -> None:
        """Say nothing for so long, or until the test is over."""
        self.end.over.wait(seconds)


@contextmanager
def end(name: str, refusal: object) -> Iterator[End]:
    """An end that listens; `refusal` is its answer for a number that nobody has."""
    server = End(name, json.dumps(refusal))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
