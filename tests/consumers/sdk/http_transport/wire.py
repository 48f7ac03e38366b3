"""A server that does with each connection what a test's script says, byte by byte."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from consumers.sdk.http_transport import HttpTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: "Wire"
    ) -> None:
        self._reader, self._writer, self._wire = reader, writer, wire

    async def request(self) -> bytes:
        """The next request, which is recorded; raises IncompleteReadError at the end."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        body = await self._reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
        self._wire.requests.append(head + body)
        return head + body

    async def some(self, size: int) -> None:
        """A part of a request."""
        await self._reader.readexactly(size)

    async def until(self, data: bytes) -> None:
        """What comes, up to `data` and with it."""
        await self._reader.readuntil(data)

    async def say(self, data: bytes) -> None:
        """Write, and wait until it may go on."""
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Until the other side is gone."""
        while await self._reader.read(65536):
            pass

    def reset(self) -> None:
        """End it rudely."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Wire:
    """The server, on a free port of loopback, with a record of what came."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None) -> None:
        self._script, self._tls = script, tls
        self.requests: list[bytes] = []
        self.connections = 0
        self._touched = asyncio.Event()
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()

    async def touched(self) -> None:
        """Until somebody has connected."""
        async with asyncio.timeout(10):
            await self._touched.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}" if self._tls else f"http://127.0.0.1:{port}"
        try:
            yield
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._touched.set()
        self._open.add(writer)
        try:
            await self._script(Peer(reader, writer, self))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone
        finally:
            self._open.discard(writer)
            writer.close()


@asynccontextmanager
async def wire(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A server that does as `script` says."""
    made = Wire(script, tls)
    async with made.serving():
        yield made


@asynccontextmanager
async def transport(
    *, timeout_seconds: float = 30.0, connections: int = 4
) -> AsyncIterator[HttpTransport]:
    """What is under test, open; patient, but where a test is about time."""
    made = HttpTransport(timeout_seconds=timeout_seconds, connections=connections)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def answer(peer: Peer) -> None:
    """A server that does what it should."""
    while True:
        await peer.request()
        await peer.say(OK)


async def silence(peer: Peer) -> None:
    """One that takes everything and says nothing."""
    await peer.gone()
