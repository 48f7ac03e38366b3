"""How many parts a text goes out in, and in which alphabet, by 3GPP TS 23.038 and 23.040.

Networks bill every part. `comms send sms` says the number before it sends, where it is more than
one; the API says it in its answer, and the rules bound it. What a provider then does to a text
(replacing typographic quotes, say) may make it smaller.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

# Of 23.038's default alphabet, the escape character left out; and what it is followed by.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
_GSM7 = _BASIC | _EXTENDED
_BEYOND_BMP = 0xFFFF


class Alphabet(StrEnum):
    """What a text is written in on its way; one letter out of GSM-7 makes all of it UCS-2."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


# Units (septets, or 16 bits) in a text of one part, and in each of several.
_ALONE = {Alphabet.GSM7: 160, Alphabet.UCS2: 70}
_JOINED = {Alphabet.GSM7: 153, Alphabet.UCS2: 67}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What a text comes to.

    Args:
        units: septets of GSM-7, or 16-bit units of UCS-2; some characters take two.
    """

    alphabet: Alphabet
    units: int
    count: int


def segments(text: str) -> Segments:
    """How a text is sent, unless a provider changes it."""
    letters = set(text)
    alphabet = Alphabet.GSM7 if letters <= _GSM7 else Alphabet.UCS2
    twice = {letter for letter in letters if _size(letter, alphabet) > 1}
    units = len(text) + sum(map(text.count, twice))
    return Segments(alphabet=alphabet, units=units, count=_count(text, twice, units, alphabet))


def _size(letter: str, alphabet: Alphabet) -> int:
    if alphabet is Alphabet.GSM7:
        return 2 if letter in _EXTENDED else 1
    return 2 if ord(letter) > _BEYOND_BMP else 1


def _count(text: str, twice: set[str], units: int, alphabet: Alphabet) -> int:
    """Parts of at most so many units; a letter of two is not cut in half."""
    if units <= _ALONE[alphabet]:
        return 1
    most = _JOINED[alphabet]
    if not twice:
        return ceil(units / most)
    count, used = 1, 0
    for letter in text:
        size = 2 if letter in twice else 1
        if used + size > most:
            count, used = count + 1, 0
        used += size
    return count
