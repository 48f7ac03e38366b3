"""A text as a handset gets it: its alphabet, its bytes, its parts. And back again, for what people
write.

The adapter asks for the parts of a body. `schemas.segments` says which alphabet a text is sent in
and of how many parts it is, as it says it to whoever writes the message. GSM-7 goes as SMSCs take
it: a septet in a byte each, by `data_coding` 0. A part of several begins with a user data header
that names its place (3GPP TS 23.040, 9.2.3.24.1).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.segments import Alphabet, segments

# The default alphabet of 3GPP TS 23.038, each letter at its code; and what the escape leads to.
_ESCAPE = "\x1b"
_LETTERS = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPED = {"\f": 0x0A, "^": 0x14, "{": 0x28, "}": 0x29, "\\": 0x2F, "[": 0x3C}
_ESCAPED |= {"~": 0x3D, "]": 0x3E, "|": 0x40, "€": 0x65}
_CODES = {letter: bytes((code,)) for code, letter in enumerate(_LETTERS) if letter != _ESCAPE}
_CODES |= {letter: bytes((0x1B, code)) for letter, code in _ESCAPED.items()}
_BY_ESCAPED = {code: letter for letter, code in _ESCAPED.items()}

GSM7, UCS2 = 0, 8  # data_coding
_ALONE = {GSM7: 160, UCS2: 140}  # bytes of a text of one part, and of each of several
_JOINED = {GSM7: 153, UCS2: 134}
_MOST_PARTS = 255
_CONCATENATION = (5, 0, 3)  # the header's length; reference, of 8 bits; three bytes of it follow
_CODECS = {1: "ascii", 3: "latin-1", 6: "iso8859-5", 7: "iso8859-8", UCS2: "utf-16-be"}


class TooLongError(Exception):
    """A text of more parts than can be numbered."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Encoded:
    """A text ready to go.

    Args:
        header: each part begins with a user data header.
    """

    data_coding: int
    parts: tuple[bytes, ...]
    header: bool


def encode(text: str, *, reference: int, ucs2_only: bool = False, whole: bool = False) -> Encoded:
    """A text in as few parts as it fits.

    Args:
        reference: what the parts of one text have in common, 0 to 255.
        ucs2_only: for an SMSC whose default alphabet is not GSM-7.
        whole: in one piece however long it is, which the SMSC then cuts.

    Raises:
        TooLongError: of too many parts.
    """
    gsm7 = segments(text).alphabet is Alphabet.GSM7 and not ucs2_only
    coding = GSM7 if gsm7 else UCS2
    letters = [_CODES[one] if gsm7 else one.encode("utf-16-be", "surrogatepass") for one in text]
    content = b"".join(letters)
    if whole or len(content) <= _ALONE[coding]:
        return Encoded(data_coding=coding, parts=(content,), header=False)
    cut = list(_cut(letters, _JOINED[coding]))
    if len(cut) > _MOST_PARTS:
        raise TooLongError("the text has too many parts")
    headed = (
        bytes((*_CONCATENATION, reference, len(cut), place)) + part
        for place, part in enumerate(cut, start=1)
    )
    return Encoded(data_coding=coding, parts=tuple(headed), header=True)


def _cut(letters: list[bytes], most: int) -> Iterator[bytes]:
    """Parts of at most so many bytes; no letter is cut in half."""
    part = b""
    for letter in letters:
        if len(part) + len(letter) > most:
            yield part
            part = b""
        part += letter
    yield part


def decode(content: bytes, data_coding: int) -> str:
    """What a person wrote; what cannot be read becomes a replacement character."""
    if data_coding in _CODECS:
        return content.decode(_CODECS[data_coding], "replace")
    if data_coding != GSM7:
        return content.decode("latin-1")
    codes = iter(content)
    return "".join(_letter(code, codes) for code in codes)


def _letter(code: int, following: Iterator[int]) -> str:
    if code == 0x1B:
        return _BY_ESCAPED.get(next(following, 0), "\ufffd")
    return _LETTERS[code] if code < len(_LETTERS) else "\ufffd"


def without_header(content: bytes) -> tuple[bytes, int]:
    """A part's text, and its place among the parts, from 1; 1 as well where it is the only one."""
    length = content[0] + 1 if content else 0
    header, text = content[1:length], content[length:]
    while len(header) >= 2:
        kind, size = header[0], header[1]
        if kind in (0x00, 0x08) and len(header) >= 2 + size:  # a reference of 8 bits, or of 16
            return text, header[1 + size]
        header = header[2 + size :]
    return text, 1
