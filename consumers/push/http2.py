"""HTTP/2 to one server: many calls on one connection, and what becomes of them when it ends.

Apple takes nothing else. `h2` speaks the protocol; this is its wire, and the one distinction that
decides what a lost call means. A server that goes away (GOAWAY) names the last call that it will
look at: those above it were not carried out, those below may be answered still. No client library
for asyncio tells the two apart, which is why there is this module.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

from consumers.sdk.http_transport import (
    ANSWER_LIMIT,
    CONNECT_SECONDS,
    Answer,
    AnswerLostError,
    NotSentError,
    TransportError,
    unreached,
    verifying,
)
from schemas.vocabulary import Reason

_FRAME_HEADER = 9  # bytes: length (3), type (1), flags (1), stream (4)
_GOAWAY = 7


@dataclass(slots=True)
class _Stream:
    """A call that waits for its answer."""

    done: asyncio.Future[Answer]
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Http2Transport:
    """Calls of one server, on one connection that is made anew when it has ended.

    Args:
        url: of the server; `http://` speaks HTTP/2 without TLS, for this machine.
        timeout_seconds: of a call, connecting included: at most half of it is spent before the
            request is written.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._url, self._seconds = url, timeout_seconds
        self._connection: _Connection | None = None
        self._turn = asyncio.Lock()  # to connect, and to wait for room: one after the other
        self._leaving: set[_Connection] = set()
        self._open = False

    async def open(self) -> None:
        """Calls may be made; the first connects."""
        self._open = True

    async def close(self) -> None:
        """End every connection."""
        self._open = False
        connections = {*self._leaving, *([self._connection] if self._connection else [])}
        self._connection = None
        for connection in connections:
            await connection.close()

    async def call(
        self, method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its answer, as `consumers.sdk.http_transport.HttpTransport.call`."""
        if not self._open:
            raise NotSentError("the provider's connections are not open")
        until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, self._seconds / 2)):
                connection = await self._usable(len(body))
        except TimeoutError as error:
            raise NotSentError("no connection in time", reason=Reason.TIMEOUT) from error
        # Nothing is waited for between having room and writing.
        return await connection.exchange(
            [*_pseudo(method, url), *((k.lower(), v) for k, v in (headers or {}).items())],
            body,
            until=until,
        )

    async def _usable(self, size: int) -> "_Connection":
        """A connection that has room for a call with a body of `size` bytes."""
        async with self._turn:
            while True:
                connection = await self._connected()
                if connection.has_room(size):
                    return connection
                await connection.changed.wait()

    async def _connected(self) -> "_Connection":
        current = self._connection
        if current is None or not current.takes_calls:
            if current is not None and not current.ended:
                self._leaving.add(current)
            self._leaving = {one for one in self._leaving if not one.ended}
            self._connection = current = await _Connection.to(self._url)
        return current


class _Connection:
    """One connection: a task reads it, calls write to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._streams: dict[int, _Stream] = {}
        self._settled = asyncio.Event()  # the server has said how many calls it takes at once
        self.changed = asyncio.Event()
        self.takes_calls, self.ended = True, False
        self._h2.initiate_connection()
        self._write()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def to(cls, url: str) -> "_Connection":
        """A connection whose server has said its settings.

        Raises:
            NotSentError: nobody listens, or it speaks something else.
        """
        parts = urlsplit(url)
        tls = verifying("h2") if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        try:
            streams = await asyncio.open_connection(parts.hostname, port, ssl=tls)
        except OSError as error:
            raise unreached(error) from error
        made = cls(*streams)
        try:
            await made._settled.wait()
        except asyncio.CancelledError:
            await made.close()
            raise
        if made.ended:
            raise NotSentError("the server does not speak HTTP/2")
        return made

    def has_room(self, size: int) -> bool:
        """Whether a call can be written now, in one piece."""
        theirs = self._h2.remote_settings
        bounds = (
            self._h2.outbound_flow_control_window,
            theirs.initial_window_size,
            self._h2.max_outbound_frame_size,
        )
        free = self._h2.open_outbound_streams < theirs.max_concurrent_streams
        return self.takes_calls and free and size <= min(bounds)

    async def exchange(
        self, headers: list[tuple[str, str]], body: bytes, *, until: float
    ) -> Answer:
        """Write a call, for which there is room, and wait for its answer, until a time of the
        loop's clock."""
        stream = _Stream(asyncio.get_running_loop().create_future())
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, headers, end_stream=not body)
            if body:
                self._h2.send_data(number, body, end_stream=True)
        except (ProtocolError, ValueError) as error:
            self._leave()  # what h2 thinks of it is not known any more
            raise NotSentError("the request could not be written") from error
        self._streams[number] = stream
        self._write()
        try:
            async with asyncio.timeout_at(until):
                return await stream.done
        except TimeoutError as error:
            raise AnswerLostError("no answer in time") from error
        finally:
            self._forget(number)

    async def close(self) -> None:
        """End it; calls that wait have lost their answers."""
        self._end()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        """Frame by frame, as what a GOAWAY says is not for h2: it would refuse all that follows."""
        try:
            while True:
                head = await self._reader.readexactly(_FRAME_HEADER)
                size = int.from_bytes(head[:3], "big")
                if size > self._h2.max_inbound_frame_size:
                    return  # it is not HTTP/2, or not for us
                frame = await self._reader.readexactly(size)
                if head[3] == _GOAWAY:
                    self._going_away(int.from_bytes(frame[:4], "big") & 0x7FFFFFFF)
                else:
                    for event in self._h2.receive_data(head + frame):
                        self._take(event)
                self._write()
                self._tell()
        except (OSError, asyncio.IncompleteReadError, ProtocolError, ValueError):
            return  # it is over, in whatever way
        finally:
            self._end()

    def _take(self, event: Event) -> None:
        match event:
            case RemoteSettingsChanged():
                self._settled.set()
            case ResponseReceived(stream_id=int(number), headers=headers):
                if (stream := self._streams.get(number)) is not None:
                    found = {str(name): str(value) for name, value in headers or []}
                    stream.status = int(found.pop(":status", "0"))
                    stream.headers = found
            case DataReceived(stream_id=int(number), data=bytes(data)):
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
                if (stream := self._streams.get(number)) is not None:
                    stream.body += data[: ANSWER_LIMIT - len(stream.body)]
            case StreamEnded(stream_id=int(number)):
                self._answered(number)
            case StreamReset(stream_id=int(number), error_code=code):
                refused = code == ErrorCodes.REFUSED_STREAM  # nothing of it was looked at
                kind = NotSentError if refused else AnswerLostError
                self._fail(number, kind("the server ended the call"))

    def _answered(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and not stream.done.done():
            text = stream.body.decode("utf-8", "replace")
            headers = {name.title(): value for name, value in stream.headers.items()}
            stream.done.set_result(Answer(stream.status, headers, text))

    def _going_away(self, last: int) -> None:
        self._leave()
        for number in [number for number in self._streams if number > last]:
            self._fail(number, NotSentError("the server is going away"))
        if not self._streams:
            self._end()

    def _fail(self, number: int, error: TransportError) -> None:
        stream = self._streams.get(number)
        if stream is not None and not stream.done.done():
            stream.done.set_exception(error)

    def _forget(self, number: int) -> None:
        """A call is over, one way or the other. Where nobody waits for it any more the server need
        not go on; and the connection may be dead, so others are not trusted to it."""
        stream = self._streams.pop(number)
        answered = stream.done.done() and not stream.done.cancelled()
        if not answered and not self.ended:
            self._leave()
            with suppress(ProtocolError):
                self._h2.reset_stream(number, ErrorCodes.CANCEL)
            self._write()
        if not self.takes_calls and not self._streams:
            self._end()
        self._tell()

    def _leave(self) -> None:
        """Take no more calls; what waits may still be answered."""
        self.takes_calls = False

    def _end(self) -> None:
        self._leave()
        self.ended = True
        for number in list(self._streams):
            self._fail(number, AnswerLostError("the connection was lost"))
        self._settled.set()
        # TLS would wait for the other side to take its leave too, which may be gone.
        self._writer.transport.abort()
        self._tell()

    def _write(self) -> None:
        if (data := self._h2.data_to_send()) and not self.ended:
            self._writer.write(data)

    def _tell(self) -> None:
        """Those who wait for room look again."""
        told, self.changed = self.changed, asyncio.Event()
        told.set()


def _pseudo(method: str, url: str) -> list[tuple[str, str]]:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return [
        (":method", method),
        (":scheme", parts.scheme),
        (":authority", parts.netloc),
        (":path", path),
    ]
