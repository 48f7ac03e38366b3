"""A small SMSC: it answers as a test wants, keeps a record, and delivers what it is told to.

It shares with the adapter what takes `submit_sm` apart, and nothing else; that the two of them are
not alike in error is shown by the SMSC of `test_smpp_node`, which is not ours.
"""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import smpp34

SYSTEM_ID, PASSWORD = "acme-one", "s3cr3t-w"
BIND, SUBMIT, DELIVER, UNBIND, ENQUIRE, NACK = 0x09, 0x04, 0x05, 0x06, 0x15, 0x80000000
RESPONSE = 0x80000000
_HEADER = struct.Struct(">IIII")

_sequences = iter(range(1, 1 << 30))

Answering = Callable[[smpp34.SubmitSm], int | None]


def frame(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(16 + len(body), command, status, sequence) + body


@dataclass(eq=False)
class Smsc:
    """What it does, and what it has seen.

    Args:
        answer: the status that a submission is answered with; None for silence.
        before_answer: deliveries that are written ahead of the answer to a submission, by its id.
        holding: answers are held back until `release`.
        next_id: the id of the next submission.
    """

    answer: Answering = lambda _: 0
    bind_status: int = 0
    answers_enquiries: bool = True
    holding: bool = False
    before_answer: Callable[[str], bytes] | None = None
    next_id: Callable[[int], str] = lambda n: f"m{n}"
    port: int = 0
    binds: list[bytes] = field(default_factory=list)
    submits: list[smpp34.SubmitSm] = field(default_factory=list)
    enquiries: int = 0
    unbinds: int = 0
    most_unanswered: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _held: list[Callable[[], None]] = field(default_factory=list)
    _asked: dict[int, asyncio.Future[tuple[int, int]]] = field(default_factory=dict)
    _ids: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                header = await reader.readexactly(16)
                length, command, status, sequence = _HEADER.unpack(header)
                body = await reader.readexactly(length - 16)
                self._take(writer, command, status, sequence, header + body)
        except (EOFError, OSError):
            pass
        finally:
            self.writers.remove(writer)
            writer.close()

    def _take(
        self, writer: asyncio.StreamWriter, command: int, status: int, sequence: int, whole: bytes
    ) -> None:
        if command == BIND:
            self.binds.append(whole[16:])
            writer.write(frame(BIND | RESPONSE, self.bind_status, sequence, b"smsc\0"))
        elif command == SUBMIT:
            submit = smpp34.decode(whole)
            assert isinstance(submit, smpp34.SubmitSm)
            self.submits.append(submit)
            self._answer_later(writer, submit, sequence)
        elif command == ENQUIRE:
            self.enquiries += 1
            if self.answers_enquiries:
                writer.write(frame(ENQUIRE | RESPONSE, 0, sequence))
        elif command == UNBIND:
            self.unbinds += 1
            writer.write(frame(UNBIND | RESPONSE, 0, sequence))
        elif sequence in self._asked:
            self._asked.pop(sequence).set_result((command, status))

    def _answer_later(
        self, writer: asyncio.StreamWriter, submit: smpp34.SubmitSm, sequence: int
    ) -> None:
        status = self.answer(submit)
        if status is None:
            return

        def respond() -> None:
            body = b""
            if status == 0:
                self._ids += 1
                theirs = self.next_id(self._ids)
                body = theirs.encode() + b"\0"
                if self.before_answer is not None:
                    writer.write(self.before_answer(theirs))
            writer.write(frame(SUBMIT | RESPONSE, status, sequence, body))

        if self.holding:
            self._held.append(respond)
            self.most_unanswered = max(self.most_unanswered, len(self._held))
        else:
            respond()

    @property
    def held(self) -> int:
        return len(self._held)

    def release(self) -> None:
        """Give the answers that were held back."""
        held, self._held = self._held, []
        for respond in held:
            respond()

    async def deliver(self, whole: bytes) -> int:
        """Deliver to whoever is bound; the status of the answer."""
        command, status = await self._answer_to(whole)
        assert command == DELIVER | RESPONSE
        return status

    async def ask(self, command: int) -> tuple[int, int]:
        """Ask something that has no body; command and status of the answer."""
        return await self._answer_to(frame(command, 0, next(_sequences)))

    async def _answer_to(self, whole: bytes) -> tuple[int, int]:
        (sequence,) = struct.unpack(">I", whole[12:16])
        answered: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self._asked[sequence] = answered
        self.write(whole)
        async with asyncio.timeout(10):
            return await answered

    def write(self, whole: bytes) -> None:
        self.writers[-1].write(whole)

    def drop(self) -> None:
        """End every connection."""
        for writer in list(self.writers):
            writer.transport.abort()


@asynccontextmanager
async def serving(
    smsc: Smsc | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Smsc]:
    """An SMSC on a port of its own."""
    made = smsc or Smsc()
    server = await asyncio.start_server(made.serve, "127.0.0.1", made.port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.drop()
        await server.wait_closed()


def delivery(
    content: bytes = b"",
    *,
    esm_class: int = 0,
    source: str = "15551230001",
    destination: str = "15005550006",
    source_ton: int = 1,
    data_coding: int = 0,
    tlvs: list[smpp34.Tlv] | None = None,
) -> bytes:
    """A `deliver_sm`."""
    return smpp34.DeliverSm(
        source,
        destination,
        content,
        source_addr_ton=source_ton,
        source_addr_npi=1,
        esm_class=esm_class,
        data_coding=data_coding,
        tlvs=tlvs or [],
        sequence_number=next(_sequences),
    ).encode()


def receipt_text(theirs: str, state: str, error: str = "000") -> bytes:
    """The usual text of a receipt (appendix B)."""
    return (
        f"id:{theirs} sub:001 dlvrd:001 submit date:2611250400 done date:2611250401 "
        f"stat:{state} err:{error} text:Hello there"
    ).encode()


def receipt(theirs: str, state: str, error: str = "000") -> bytes:
    """A receipt by its text alone."""
    return delivery(receipt_text(theirs, state, error), esm_class=0x04)
