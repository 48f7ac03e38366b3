"""A kind of provider that speaks over the connection it is called by, and the other end of it.

The tests install it as any package elsewhere would, by an entry point (`installed`). `Exchange` is
the other end: it says lines of JSON to whoever is connected, and keeps what it was answered.
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
    """Takes every message, and passes on what it hears."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self._port = name, port

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
                    await tell(_said(json.loads(line)))
                except ReceiptNotStoredError:
                    writer.write(b"again\n")
                else:
                    writer.write(b"taken\n")
        finally:
            writer.close()


def _said(line: Mapping[str, Any]) -> list[ReceiptEvent]:
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


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the kind known as `pager` of text messages."""
    install(folder, monkeypatch, name="sms.pager", leads_to="tests.consumers.pager:PAGER")


class Exchange:
    """The other end, for one connection."""

    def __init__(self, server: socket.socket) -> None:
        self._server, self._connected = server, threading.Event()
        self._answers: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def say(self, **line: object) -> str:
        """Say one thing; what was answered."""
        assert self._connected.wait(30)
        before = len(self._answers)
        self._connection.sendall(json.dumps(line).encode() + b"\n")
        wait_for(lambda: len(self._answers) > before, seconds=60, what="an answer")
        return self._answers[-1]

    def say_nonsense(self) -> None:
        """Say what no provider should."""
        assert self._connected.wait(30)
        self._connection.sendall(b"what?\n")

    @property
    def is_over(self) -> bool:
        """Whether the one that was connected has gone."""
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
def exchange() -> Iterator[Exchange]:
    """The other end, listening on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Exchange(server)
        try:
            yield made
        finally:
            made.hang_up()
