"""What HTTP clients tell of a call that failed: whether the request had been written.

    python -m benchmarks.phases

A server on loopback fails in every phase of a call. Printed is what each client of
`benchmarks.callers` raises, and what `consumers.sdk.http_transport` makes of aiohttp's, with how
many connections and whole requests the server saw. To be told apart are the first five, where
nothing was sent, and the others, where the call may have been carried out. The extra `bench`
installs the clients that the product does not use.
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

SECONDS = 1.0  # of a call; half of it to connect
OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Peer:
    """The server's end of a connection, and what all of them have seen."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: list[int]

    async def request(self) -> None:
        """Read one."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"\r\ncontent-length:")
        await self.reader.readexactly(int(length.split()[0]) if length else 0)
        self.seen[1] += 1

    async def end(self) -> None:
        """Wait until the client is gone."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """End the connection rudely."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def _silent(peer: Peer) -> None:
    await peer.end()


async def _silent_after(peer: Peer) -> None:
    await peer.request()
    await peer.end()


async def _reset_at_once(peer: Peer) -> None:
    await peer.reader.readexactly(1)
    peer.reset()


async def _reset_after(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def _end_after(peer: Peer) -> None:
    await peer.request()


async def _half_answer(peer: Peer) -> None:
    await peer.request()
    peer.writer.write(OK[:-1])


async def _end_with_second(peer: Peer) -> None:
    await peer.request()
    peer.writer.write(OK)
    await peer.request()


@dataclass(frozen=True, slots=True)
class Phase:
    """A way to fail.

    Args:
        calls: one after the other, or all `at_once`; the last one counts.
    """

    name: str
    script: Callable[[Peer], Awaitable[None]] | None
    scheme: str = "http"
    host: str = "127.0.0.1"
    calls: int = 1
    at_once: bool = False


PHASES = (
    Phase("nobody listens", None),
    Phase("no such name", None, host="nowhere.invalid"),
    Phase("reset in the handshake", _reset_at_once, scheme="https"),
    Phase("silent in the handshake", _silent, scheme="https"),
    Phase("no connection is free", _silent_after, calls=2, at_once=True),
    Phase("reset in the request", _reset_at_once),
    Phase("reset after it", _reset_after),
    Phase("closed after it", _end_after),
    Phase("closed in the answer", _half_answer),
    Phase("silent after it", _silent_after),
    Phase("kept connection closed", _end_with_second, calls=2),
)


@dataclass(slots=True)
class Server:
    """Fails in one phase."""

    phase: Phase
    seen: list[int] = field(default_factory=lambda: [0, 0])  # connections, requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen[0] += 1
        assert self.phase.script is not None
        with suppress(OSError, asyncio.IncompleteReadError):
            await self.phase.script(Peer(reader, writer, self.seen))
        writer.close()


@asynccontextmanager
async def by_comms(url: str, *, connections: int, seconds: float) -> AsyncIterator[Call]:
    """What adapters call."""
    transport = HttpTransport(timeout_seconds=seconds, connections=connections)

    async def call() -> int:
        return (await transport.call("POST", url, body=BODY, headers=HEADERS)).status

    await transport.open()
    try:
        yield call
    finally:
        await transport.close()


async def told(call: Call, phase: Phase) -> str:
    """What the client says of its last call."""
    if phase.at_once:
        tasks: list[asyncio.Future[int]] = []
        for _ in range(phase.calls):
            tasks.append(asyncio.ensure_future(call()))
            await asyncio.sleep(0.1)  # in their order
        found = (await asyncio.gather(*tasks, return_exceptions=True))[-1]
    else:
        for _ in range(phase.calls):
            (found,) = await asyncio.gather(call(), return_exceptions=True)
    said = f"{type(found).__name__}: {found}" if isinstance(found, BaseException) else str(found)
    return " ".join(said.split())[:90]


async def main() -> None:
    """Ask each client about each phase."""
    for phase in PHASES:
        print(phase.name)
        for name, caller in {**CALLERS, "comms": by_comms}.items():
            server, port = Server(phase), free_port()
            listening = None
            if phase.script is not None:
                listening = await asyncio.start_server(server.serve, "127.0.0.1", port)
            url = f"{phase.scheme}://{phase.host}:{port}/"
            async with caller(url, connections=1, seconds=SECONDS) as call:
                said = await told(call, phase)
            if listening is not None:
                listening.close()
            connections, requests = server.seen
            print(f"  {name:10} {connections} connections {requests} requests  {said}")


if __name__ == "__main__":
    uvloop.run(main())
