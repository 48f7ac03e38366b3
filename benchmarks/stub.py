"""A stub provider with minimal cost: it answers every POST after a fixed time and counts the calls.

The benchmarks run it as a process of its own, so that its cost is not measured. `GET /stats`
returns the number of calls and the times of the first and the last one.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

BODY = b'{"id":"stub-1","sid":"SM0123456789abcdef0123456789abcdef","status":"accepted"}'
RESPONSE = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(BODY)).encode()
    + b"\r\n\r\n"
    + BODY
)


class Stub(asyncio.Protocol):
    """One connection. HTTP/1.1 clients without pipelining send one request at a time."""

    calls = 0
    first = last = 0.0
    latency = 0.05

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the responses."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer the request when it is complete."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET"):
            self._buffer = b""
            self._send_stats()
        elif len(body) >= _content_length(head):
            self._buffer = b""
            self._count_call()
            asyncio.get_running_loop().call_later(Stub.latency, self._transport.write, RESPONSE)

    def _count_call(self) -> None:
        Stub.calls += 1
        Stub.last = time.time()
        Stub.first = Stub.first or Stub.last

    def _send_stats(self) -> None:
        stats = {"calls": Stub.calls, "first": Stub.first, "last": Stub.last}
        body = json.dumps(stats).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(port: int, latency: float) -> None:
    """Serve until the process is terminated."""
    Stub.latency = latency
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
