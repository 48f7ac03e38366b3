"""The segments of a text."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.segments import Alphabet, Segments, segments


@pytest.mark.parametrize(
    ("text", "alphabet", "units", "count"),
    [
        ("", Alphabet.GSM7, 0, 1),
        ("a" * 160, Alphabet.GSM7, 160, 1),
        ("a" * 161, Alphabet.GSM7, 161, 2),
        ("a" * 306, Alphabet.GSM7, 306, 2),
        ("a" * 307, Alphabet.GSM7, 307, 3),
        ("€" * 80, Alphabet.GSM7, 160, 1),
        ("€" * 81, Alphabet.GSM7, 162, 2),
        (
            "a" * 152 + "€" + "a" * 152,
            Alphabet.GSM7,
            306,
            3,
        ),  # the escape and its character stay together
        ("Grüße, Ñandú", Alphabet.UCS2, 12, 1),  # GSM-7 has no ú
        ("Größe à la carte: 5 £ [ÄÖÜ] Ωmega\n", Alphabet.GSM7, 36, 1),
        ("я" * 70, Alphabet.UCS2, 70, 1),
        ("я" * 71, Alphabet.UCS2, 71, 2),
        ("я" * 134, Alphabet.UCS2, 134, 2),
        ("я" * 135, Alphabet.UCS2, 135, 3),
        ("🐟" * 35, Alphabet.UCS2, 70, 1),
        ("🐟" * 67, Alphabet.UCS2, 134, 3),  # 33 in a segment, because none is split
        ("“quoted”", Alphabet.UCS2, 8, 1),
        ("a`b", Alphabet.UCS2, 3, 1),  # GSM-7 has no backtick
    ],
)
def test_text_is_counted_as_networks_count(
    text: str, alphabet: Alphabet, units: int, count: int
) -> None:
    assert segments(text) == Segments(alphabet=alphabet, units=units, count=count)


def test_gsm7_has_the_characters_of_both_tables() -> None:
    """The basic table without the escape, and the extension table."""
    gsm7 = [chr(n) for n in range(0x10000) if segments(chr(n)).alphabet is Alphabet.GSM7]
    assert len(gsm7) == 127 + 10
    assert sum(segments(character).units == 2 for character in gsm7) == 10


@given(st.text("a€я🐟", max_size=700))
def test_segments_hold_the_whole_text_within_their_limits(text: str) -> None:
    counted = segments(text)
    single, multiple = (160, 153) if counted.alphabet is Alphabet.GSM7 else (70, 67)
    double = "€" if counted.alphabet is Alphabet.GSM7 else "🐟"
    assert counted.units == len(text) + text.count(double)
    if counted.units <= single:
        assert counted.count == 1
    else:  # a segment loses at most one unit, because a character of two units is not split
        least, most = ceil(counted.units / multiple), ceil(counted.units / (multiple - 1))
        assert least <= counted.count <= most
