"""A provider that costs as little as it can: answers every POST after a fixed wait, and counts.

`benchmarks.deliver` runs it as a process of its own, so that both sides call the same thing and its
cost is not theirs. `GET /stats` tells how many calls came, when the first and when the last.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

BODY = b'{"id":"stub-1","sid":"SM0123456789abcdef0123456789abcdef","status":"accepted"}'
ANSWER = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(BODY)).encode()
    + b"\r\n\r\n"
    + BODY
)


class Stub(asyncio.Protocol):
    """One connection. Requests come one at a time, as HTTP/1.1 clients without pipelining do."""

    calls = 0
    first = last = 0.0
    latency = 0.05

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET"):
            self._buffer = b""
            self._tell()
        elif len(body) >= _length_of(head):
            self._buffer = b""
            self._count()
            asyncio.get_running_loop().call_later(Stub.latency, self._transport.write, ANSWER)

    def _count(self) -> None:
        Stub.calls += 1
        Stub.last = time.time()
        Stub.first = Stub.first or Stub.last

    def _tell(self) -> None:
        stats = {"calls": Stub.calls, "first": Stub.first, "last": Stub.last}
        body = json.dumps(stats).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _length_of(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(port: int, latency: float) -> None:
    """Answer until ended."""
    Stub.latency = latency
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
