"""Texts and the parts they go out in."""

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
        ("a" * 152 + "€" + "a" * 152, Alphabet.GSM7, 306, 3),  # the escape and its letter stay one
        ("Grüße, Ñandú", Alphabet.UCS2, 12, 1),  # GSM-7 has no ú
        ("Größe à la carte: 5 £ [ÄÖÜ] Ωmega\n", Alphabet.GSM7, 36, 1),
        ("я" * 70, Alphabet.UCS2, 70, 1),
        ("я" * 71, Alphabet.UCS2, 71, 2),
        ("я" * 134, Alphabet.UCS2, 134, 2),
        ("я" * 135, Alphabet.UCS2, 135, 3),
        ("🐟" * 35, Alphabet.UCS2, 70, 1),
        ("🐟" * 67, Alphabet.UCS2, 134, 3),  # 33 fish to a part, as none is cut
        ("“quoted”", Alphabet.UCS2, 8, 1),
        ("a`b", Alphabet.UCS2, 3, 1),  # nor a backtick
    ],
)
def test_a_text_is_counted_as_networks_do(
    text: str, alphabet: Alphabet, units: int, count: int
) -> None:
    assert segments(text) == Segments(alphabet=alphabet, units=units, count=count)


def test_the_alphabet_is_gsms() -> None:
    """As many characters as the two tables have, the escape left out."""
    found = [chr(n) for n in range(0x10000) if segments(chr(n)).alphabet is Alphabet.GSM7]
    assert len(found) == 127 + 10
    assert sum(segments(one).units == 2 for one in found) == 10


@given(st.text("a€я🐟", max_size=700))
def test_parts_hold_the_whole_text_and_no_more_than_each_can(text: str) -> None:
    found = segments(text)
    alone, joined = (160, 153) if found.alphabet is Alphabet.GSM7 else (70, 67)
    twice = "€" if found.alphabet is Alphabet.GSM7 else "🐟"
    assert found.units == len(text) + text.count(twice)
    if found.units <= alone:
        assert found.count == 1
    else:  # a part loses one place at most, to a letter of two
        assert ceil(found.units / joined) <= found.count <= ceil(found.units / (joined - 1))
