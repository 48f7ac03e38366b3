"""The number of segments of a text and its encoding, by 3GPP TS 23.038 and 23.040.

Networks bill every segment. `comms send sms` prints the number before it sends, if there is more
than one. The API returns it, and the rules limit it. A provider may change a text (replace
typographic quotes, for example) and so need fewer segments.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

# The default alphabet of TS 23.038 without the escape character, and the characters that follow it.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
_GSM7 = _BASIC | _EXTENDED
_BEYOND_BMP = 0xFFFF


class Alphabet(StrEnum):
    """The encoding of a text. One character outside GSM-7 puts the whole text in UCS-2."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


# Units (septets, or 16 bits) in a text of one segment, and in each of several segments.
_SINGLE = {Alphabet.GSM7: 160, Alphabet.UCS2: 70}
_CONCATENATED = {Alphabet.GSM7: 153, Alphabet.UCS2: 67}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The segments of a text.

    Args:
        alphabet: the encoding of the text.
        units: septets of GSM-7, or 16-bit units of UCS-2; some characters take two.
        count: the number of segments.
    """

    alphabet: Alphabet
    units: int
    count: int


def segments(text: str) -> Segments:
    """Count the segments of a text, as it is sent unless a provider changes it."""
    characters = set(text)
    alphabet = Alphabet.GSM7 if characters <= _GSM7 else Alphabet.UCS2
    double = {character for character in characters if _size(character, alphabet) > 1}
    units = len(text) + sum(map(text.count, double))
    return Segments(alphabet=alphabet, units=units, count=_count(text, double, units, alphabet))


def _size(character: str, alphabet: Alphabet) -> int:
    if alphabet is Alphabet.GSM7:
        return 2 if character in _EXTENDED else 1
    return 2 if ord(character) > _BEYOND_BMP else 1


def _count(text: str, double: set[str], units: int, alphabet: Alphabet) -> int:
    """Count segments. A character of two units is not split between two segments."""
    if units <= _SINGLE[alphabet]:
        return 1
    limit = _CONCATENATED[alphabet]
    if not double:
        return ceil(units / limit)
    count, used = 1, 0
    for character in text:
        size = 2 if character in double else 1
        if used + size > limit:
            count, used = count + 1, 0
        used += size
    return count
