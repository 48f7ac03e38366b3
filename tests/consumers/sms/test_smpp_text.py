"""Alphabets and parts, held to how parts are counted elsewhere and to what they are together."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumers.sms.smpp.text import (
    GSM7,
    UCS2,
    TooLongError,
    decode,
    encode,
    without_header,
)
from schemas.segments import Alphabet, segments

_GSM = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./09:;<=>?¡AZÄÖÑÜ§¿azäöñüà\f^{}\\[~]|€"
_TEXTS = st.text(alphabet=st.sampled_from(_GSM), max_size=700) | st.text(max_size=300)


@given(_TEXTS, st.integers(0, 255))
@example("a" * 152 + "€" * 20, 7)
@example("й" * 66 + "🎉" * 20, 7)
def test_what_is_put_together_is_the_text_in_as_many_parts_as_are_counted(
    text: str, reference: int
) -> None:
    encoded, counted = encode(text, reference=reference), segments(text)
    assert encoded.data_coding == (GSM7 if counted.alphabet is Alphabet.GSM7 else UCS2)
    assert len(encoded.parts) == counted.count
    assert encoded.header == (counted.count > 1)
    assert all(len(part) <= (160 if encoded.data_coding == GSM7 else 140) for part in encoded.parts)
    if encoded.header:
        read = [without_header(part) for part in encoded.parts]
        assert [place for _, place in read] == list(range(1, counted.count + 1))
        assert {part[3] for part in encoded.parts} == {reference}
        assert "".join(decode(part, encoded.data_coding) for part, _ in read) == text
    else:
        assert decode(encoded.parts[0], encoded.data_coding) == text


@given(st.characters())
def test_a_letter_has_the_alphabet_that_is_counted(letter: str) -> None:
    expected = GSM7 if segments(letter).alphabet is Alphabet.GSM7 else UCS2
    assert encode(letter, reference=0).data_coding == expected


def test_more_parts_than_can_be_numbered_are_too_many() -> None:
    assert len(encode("a" * 153 * 255, reference=0).parts) == 255
    with pytest.raises(TooLongError):
        encode("a" * (153 * 255 + 1), reference=0)


@given(st.binary(max_size=40), st.integers(0, 255))
def test_whatever_people_send_is_read(content: bytes, coding: int) -> None:
    assert isinstance(decode(content, coding), str)
    text, place = without_header(content)
    assert content.endswith(text)
    assert 0 <= place <= 255
