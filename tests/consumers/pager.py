"""A provider type that receives over the connection it is called by, and the provider's server.

Tests install it as another package would, by an entry point (`install_pager`). `Exchange` is the
server: it sends lines of JSON to the client that is connected, and keeps the answers.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from consumers.sdk.options import Port, ProviderOptions
from consumers.sdk.outcomes import Accepted, Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipt_stream import ReceiptNotStoredError, StoreReceipts
from consumers.sdk.receipts import Inbound, Receipt, ReceiptEvent
from schemas.events import ProviderResponse
from schemas.messages import Message
from tests.provider_types import install
from tests.waiting import wait_for


class Pager:
    """Accepts every message, and passes on what it receives."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._port = port

    async def open(self) -> None: ...

    async def send(self, message: Message, attempt: Attempt) -> Outcome:
        del attempt
        return Accepted(response=ProviderResponse(provider_message_id=f"page-{message.id}"))

    async def probe(self) -> str | None:
        return None

    async def close(self) -> None: ...

    async def listen(self, tell: StoreReceipts) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while line := await reader.readline():
                try:
                    await tell(_parse(json.loads(line)))
                except ReceiptNotStoredError:
                    writer.write(b"retry\n")
                else:
                    writer.write(b"stored\n")
        finally:
            writer.close()


def _parse(line: Mapping[str, Any]) -> list[ReceiptEvent]:
    if "text" in line:
        return [Inbound(from_=line["from"], to="+12025550100", text=line["text"])]
    return [
        Receipt(
            message_id=UUID(line["id"]),
            delivered=line["delivered"],
            occurred_at=datetime.now(UTC),
            response=ProviderResponse(provider_message_id=f"page-{line['id']}"),
        )
    ]


class PagerOptions(ProviderOptions):
    """The other end."""

    port: Port


def _build(context: ProviderContext[PagerOptions]) -> Pager:
    return Pager(context.name, context.options.port)


PAGER = ProviderType(options=PagerOptions, build=_build, reports_every_message=True)


def install_pager(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the type as `pager` for text messages."""
    install(folder, monkeypatch, name="sms.pager", leads_to="tests.consumers.pager:PAGER")


class Exchange:
    """The provider's server, for one connection."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._connected = threading.Event()
        self._answers: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def send(self, **line: object) -> str:
        """Send one line, and return the answer to it."""
        assert self._connected.wait(30)
        before = len(self._answers)
        self._connection.sendall(json.dumps(line).encode() + b"\n")
        wait_for(lambda: len(self._answers) > before, seconds=60, what="an answer")
        return self._answers[-1]

    def send_nonsense(self) -> None:
        """Send a line that no provider should send."""
        assert self._connected.wait(30)
        self._connection.sendall(b"not JSON\n")

    @property
    def is_disconnected(self) -> bool:
        """Whether the client has disconnected."""
        return not self._thread.is_alive()

    def hang_up(self) -> None:
        """End the connection, if there is one."""
        if self._connected.is_set():
            self._connection.shutdown(socket.SHUT_RDWR)
            self._thread.join(10)
            self._connection.close()

    def _serve(self) -> None:
        self._connection, _ = self._server.accept()
        self._connected.set()
        with self._connection.makefile() as lines:
            for line in lines:
                self._answers.append(line.strip())


@contextmanager
def running_exchange() -> Iterator[Exchange]:
    """Run the server on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        exchange = Exchange(server)
        try:
            yield exchange
        finally:
            exchange.hang_up()
