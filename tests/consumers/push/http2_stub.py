"""A provider's end over HTTP/2: the stub of `tests.consumers.contract.http_suite`, spoken
otherwise. What it answers is looked up there; besides, it can go away in the middle."""

import asyncio
import ssl
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.consumers.contract.http_suite import (
    HANG_UP,
    NO_RESPONSE,
    Dialogue,
    Recorded,
    Reply,
    Stub,
)

# GOAWAY, naming the call as not looked at, or as the last one; the second is answered, or lost.
GONE_BEFORE, GONE_AFTER, GONE_SILENT = (Reply(0, f"goaway {n}") for n in range(3))
REFUSED_STREAM = Reply(0, "reset refused")
RESET = Reply(0, "reset")


class Http2Stub(Stub):
    """The server.

    Args:
        at_once: calls that it takes on a connection at the same time.
        tls: its certificate; without, it speaks HTTP/2 in the clear.
    """

    def __init__(
        self, dialogue: Dialogue, *, at_once: int = 100, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(dialogue)
        self.connections = 0
        self.most_at_once = 0
        self._at_once, self._tls = at_once, tls
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket, ssl=self._tls)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._talks.values():
            writer.transport.abort()
        await asyncio.gather(*self._talks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks[task] = writer
        self.connections += 1
        try:
            await _Conversation(self, reader, writer, self._at_once).run()
        except (OSError, ProtocolError):
            pass
        finally:
            del self._talks[task]
            writer.close()

    def answer_to(self, asked: Recorded) -> Reply:
        self.requests.append(asked)
        return self._reply(asked)


class _Conversation:
    """One connection."""

    def __init__(
        self,
        stub: Http2Stub,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        at_once: int,
    ) -> None:
        self._stub, self._reader, self._writer = stub, reader, writer
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._h2.local_settings = Settings(
            client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: at_once}
        )
        self._asked: dict[int, tuple[dict[str, str], bytearray]] = {}

    async def run(self) -> None:
        self._h2.initiate_connection()
        self._writer.write(self._h2.data_to_send())
        while data := await self._reader.read(65536):
            for event in self._h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    headers = {str(k): str(v) for k, v in event.headers or []}
                    self._asked[event.stream_id or 0] = (headers, bytearray())
                    most = max(self._stub.most_at_once, len(self._asked))
                    self._stub.most_at_once = most
                elif isinstance(event, DataReceived):
                    self._asked[event.stream_id or 0][1].extend(event.data or b"")
                    size = event.flow_controlled_length or 0
                    self._h2.acknowledge_received_data(size, event.stream_id or 0)
                elif isinstance(event, StreamEnded):
                    self._answer(event.stream_id or 0)
            self._writer.write(self._h2.data_to_send())

    def _answer(self, number: int) -> None:
        headers, body = self._asked.pop(number)
        path = urlsplit(headers[":path"])
        reply = self._stub.answer_to(
            Recorded(headers[":method"], path.path, path.query, headers, bytes(body))
        )
        if reply is NO_RESPONSE:
            return
        if reply is HANG_UP:
            self._writer.transport.abort()
        elif reply in (REFUSED_STREAM, RESET):
            self._h2.reset_stream(number, 7 if reply is REFUSED_STREAM else 2)
        elif reply in (GONE_BEFORE, GONE_AFTER, GONE_SILENT):
            self._go_away(number, reply)
        else:
            self._respond(number, reply)

    def _go_away(self, number: int, reply: Reply) -> None:
        """The frame is written as it is, since h2 would say nothing after it."""
        last = number - 2 if reply is GONE_BEFORE else number
        frame = b"\x00\x00\x08\x07\x00" + bytes(4) + max(last, 0).to_bytes(4, "big") + bytes(4)
        self._writer.write(self._h2.data_to_send() + frame)
        if reply is GONE_AFTER:
            self._respond(number, Reply(200, "", {"apns-id": "after"}))
        elif reply is GONE_SILENT:
            self._writer.close()

    def _respond(self, number: int, reply: Reply) -> None:
        headers = [(k.lower(), v) for k, v in reply.headers.items()]
        self._h2.send_headers(number, [(":status", str(reply.status)), *headers])
        self._h2.send_data(number, reply.text.encode(), end_stream=True)
