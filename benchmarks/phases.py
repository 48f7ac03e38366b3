"""Print the errors of HTTP clients for failed calls: do they say whether the request was written?

    python -m benchmarks.phases

A server on loopback fails in each phase of a call. For each phase the benchmark prints the error of
each client of `benchmarks.callers`, the error that `consumers.sdk.http_transport` makes of that of
aiohttp, and the number of connections and complete requests that the server saw. A client must
distinguish the first five phases, in which nothing was sent, from the others, in which the call may
have been carried out. The extra `bench` installs the clients that the product does not use.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import uvloop

from benchmarks.callers import BODY, CALLERS, HEADERS, Call
from comms.stack.process import free_port
from consumers.sdk.http_transport import HttpTransport

CALL_SECONDS = 1.0  # the time limit of a call; half of it to connect
OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Counts:
    """The connections and complete requests that a server saw."""

    connections: int = 0
    requests: int = 0


@dataclass(slots=True)
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    counts: Counts

    async def read_request(self) -> None:
        """Read one request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"\r\ncontent-length:")
        await self.reader.readexactly(int(length.split()[0]) if length else 0)
        self.counts.requests += 1

    async def wait_for_close(self) -> None:
        """Wait until the client closes the connection."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """Reset the connection."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def _never_answer(peer: Peer) -> None:
    await peer.wait_for_close()


async def _never_answer_request(peer: Peer) -> None:
    await peer.read_request()
    await peer.wait_for_close()


async def _reset_at_first_byte(peer: Peer) -> None:
    await peer.reader.readexactly(1)
    peer.reset()


async def _reset_after_request(peer: Peer) -> None:
    await peer.read_request()
    peer.reset()


async def _close_after_request(peer: Peer) -> None:
    await peer.read_request()


async def _send_half_response(peer: Peer) -> None:
    await peer.read_request()
    peer.writer.write(OK[:-1])


async def _close_after_second_request(peer: Peer) -> None:
    await peer.read_request()
    peer.writer.write(OK)
    await peer.read_request()


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a call in which the server fails.

    Args:
        script: what the server does with a connection; None if it does not listen.
        calls: the number of calls; the result of the last one is printed.
        at_once: make the calls at the same time, not one after the other.
    """

    name: str
    script: Callable[[Peer], Awaitable[None]] | None
    scheme: str = "http"
    host: str = "127.0.0.1"
    calls: int = 1
    at_once: bool = False


PHASES = (
    Phase("nothing listens", None),
    Phase("no such host name", None, host="nowhere.invalid"),
    Phase("reset during the TLS handshake", _reset_at_first_byte, scheme="https"),
    Phase("no answer to the TLS handshake", _never_answer, scheme="https"),
    Phase("no connection is free", _never_answer_request, calls=2, at_once=True),
    Phase("reset during the request", _reset_at_first_byte),
    Phase("reset after the request", _reset_after_request),
    Phase("closed after the request", _close_after_request),
    Phase("closed during the response", _send_half_response),
    Phase("no response to the request", _never_answer_request),
    Phase("kept connection closed", _close_after_second_request, calls=2),
)


@dataclass(slots=True)
class Server:
    """Fails in one phase, and counts what it saw."""

    phase: Phase
    counts: Counts = field(default_factory=Counts)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the script of the phase on a connection."""
        self.counts.connections += 1
        assert self.phase.script is not None
        with suppress(OSError, asyncio.IncompleteReadError):
            await self.phase.script(Peer(reader, writer, self.counts))
        writer.close()


@asynccontextmanager
async def by_comms(url: str, *, connections: int, seconds: float) -> AsyncIterator[Call]:
    """Yield calls with `HttpTransport`, which all adapters use."""
    transport = HttpTransport(timeout_seconds=seconds, connections=connections)

    async def call() -> int:
        return (await transport.call("POST", url, body=BODY, headers=HEADERS)).status

    await transport.open()
    try:
        yield call
    finally:
        await transport.close()


async def last_result(call: Call, phase: Phase) -> str:
    """Make the calls of a phase, and return the status or the error of the last one."""
    result: int | BaseException = 0
    if phase.at_once:
        tasks: list[asyncio.Future[int]] = []
        for _ in range(phase.calls):
            tasks.append(asyncio.ensure_future(call()))
            await asyncio.sleep(0.1)  # so that the calls start in their order
        result = (await asyncio.gather(*tasks, return_exceptions=True))[-1]
    else:
        for _ in range(phase.calls):
            (result,) = await asyncio.gather(call(), return_exceptions=True)
    is_error = isinstance(result, BaseException)
    text = f"{type(result).__name__}: {result}" if is_error else str(result)
    return " ".join(text.split())[:90]


async def main() -> None:
    """Print the result of each client in each phase."""
    for phase in PHASES:
        print(phase.name)
        for name, caller in {**CALLERS, "comms": by_comms}.items():
            server, port = Server(phase), free_port()
            listener = None
            if phase.script is not None:
                listener = await asyncio.start_server(server.serve, "127.0.0.1", port)
            url = f"{phase.scheme}://{phase.host}:{port}/"
            async with caller(url, connections=1, seconds=CALL_SECONDS) as call:
                result = await last_result(call, phase)
            if listener is not None:
                listener.close()
            counts = f"{server.counts.connections} connections {server.counts.requests} requests"
            print(f"  {name:10} {counts}  {result}")


if __name__ == "__main__":
    uvloop.run(main())
