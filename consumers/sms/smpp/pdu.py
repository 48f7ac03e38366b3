"""Frames of SMPP 3.4, read and written: the one module that knows the library `smpp34`.

The link (`consumers.sms.smpp.link`) reads and writes frames, the adapter makes `submit_sm` and
reads `deliver_sm`. The library encodes and decodes these two, with their optional parameters; what
is left is a header, and bodies of a few strings that end in a zero byte.
https://smpp.org/SMPP_v3_4_Issue1_2.pdf
"""

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import smpp34

_HEADER = struct.Struct(">IIII")  # length, command, status, sequence
_LONGEST = 128 * 1024  # bytes; a payload is 64 KB at most
_VERSION = 0x34
MESSAGE_PAYLOAD = 0x0424  # an optional parameter
_RESPONSE = 0x8000_0000
HIGHEST_SEQUENCE = 0x7FFF_FFFF


class Command(IntEnum):
    """What is asked; the answer to it has the highest bit set."""

    BIND_TRANSCEIVER = 0x09
    SUBMIT_SM = 0x04
    DELIVER_SM = 0x05
    UNBIND = 0x06
    ENQUIRE_LINK = 0x15
    GENERIC_NACK = 0x8000_0000


class Status(IntEnum):
    """What we answer, and what is told apart here; the rest is in the table of `errors`."""

    OK = 0x00
    UNKNOWN_COMMAND = 0x03
    NOT_BOUND = 0x04
    SAY_IT_AGAIN = 0x64  # ESME_RX_T_APPN: for the moment
    NEVER = 0x65  # ESME_RX_P_APPN: for good


class UnreadableError(Exception):
    """What came is no frame of SMPP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """A frame as it came. `whole` is all of it; nothing of it is shown."""

    command: int
    status: int
    sequence: int
    whole: bytes

    @property
    def is_response(self) -> bool:
        return bool(self.command & _RESPONSE)

    def first_string(self) -> str:
        """The first field of a body: a message's id in `submit_sm_resp`."""
        field = self.whole[_HEADER.size :].partition(b"\0")[0]
        return field.decode("ascii", "replace")

    def __repr__(self) -> str:
        return f"Pdu({self.command:#010x}, status={self.status:#010x}, {len(self.whole)} bytes)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Address:
    """A number or a name, with its type (TON) and plan (NPI)."""

    value: str
    ton: int
    npi: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Submission:
    """One text as `submit_sm` carries it.

    Args:
        content: in `data_coding`; longer than 254 bytes it goes as `message_payload`.
        header: it begins with a user data header (UDH).
        validity_period: in SMPP's own form, or empty.
    """

    source: Address
    destination: Address
    content: bytes
    data_coding: int
    header: bool
    service_type: str
    validity_period: str

    def frame(self, sequence: int) -> bytes:
        """With a receipt asked for, of success and of failure."""
        fits = len(self.content) <= 254
        payload = [] if fits else [smpp34.Tlv(MESSAGE_PAYLOAD, self.content)]
        return smpp34.SubmitSm(
            self.source.value,
            self.destination.value,
            self.content if fits else b"",
            service_type=self.service_type,
            source_addr_ton=self.source.ton,
            source_addr_npi=self.source.npi,
            dest_addr_ton=self.destination.ton,
            dest_addr_npi=self.destination.npi,
            esm_class=0x40 if self.header else 0,
            validity_period=self.validity_period,
            registered_delivery=1,
            data_coding=self.data_coding,
            tlvs=payload,
            sequence_number=sequence,
        ).encode()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Delivery:
    """What `deliver_sm` brings: a receipt, or what a person wrote.

    Args:
        content: of `short_message`, or of `message_payload` where that is empty.
    """

    source: Address
    destination: str
    esm_class: int
    data_coding: int
    content: bytes
    parameters: Mapping[int, bytes]


def delivery(pdu: Pdu) -> Delivery:
    """Read a `deliver_sm`.

    Raises:
        UnreadableError: it is none.
    """
    try:
        found = smpp34.decode(pdu.whole)
    except smpp34.SmppError as error:
        raise UnreadableError("a deliver_sm that cannot be read") from error
    if not isinstance(found, smpp34.DeliverSm):
        raise UnreadableError("no deliver_sm")
    parameters = {one.tag: one.value for one in found.tlvs}
    return Delivery(
        source=Address(
            value=found.source_addr, ton=found.source_addr_ton, npi=found.source_addr_npi
        ),
        destination=found.destination_addr,
        esm_class=found.esm_class,
        data_coding=found.data_coding,
        content=found.short_message or parameters.get(MESSAGE_PAYLOAD, b""),
        parameters=parameters,
    )


def bind_transceiver(sequence: int, *, system_id: str, password: str, system_type: str) -> bytes:
    """Who we are. No range of addresses: what the account gets is settled there."""
    strings = b"".join(one.encode("ascii") + b"\0" for one in (system_id, password, system_type))
    body = strings + bytes((_VERSION, 0, 0)) + b"\0"
    return frame(Command.BIND_TRANSCEIVER, sequence=sequence, body=body)


def response(pdu: Pdu, status: Status) -> bytes:
    """The answer to what was asked of us; `deliver_sm_resp` has an id that is always empty."""
    body = b"\0" if pdu.command == Command.DELIVER_SM else b""
    return frame(pdu.command | _RESPONSE, sequence=pdu.sequence, status=status, body=body)


def frame(command: int, *, sequence: int, status: int = Status.OK, body: bytes = b"") -> bytes:
    """Header and body."""
    return _HEADER.pack(_HEADER.size + len(body), command, status, sequence) + body


async def read(reader: asyncio.StreamReader) -> Pdu:
    """The next frame.

    Raises:
        UnreadableError: what comes is something else.
        OSError, EOFError: the connection has ended.
    """
    header = await reader.readexactly(_HEADER.size)
    length, command, status, sequence = _HEADER.unpack(header)
    if not _HEADER.size <= length <= _LONGEST:
        raise UnreadableError(f"a frame of {length} bytes")
    body = await reader.readexactly(length - _HEADER.size)
    return Pdu(command=command, status=status, sequence=sequence, whole=header + body)
