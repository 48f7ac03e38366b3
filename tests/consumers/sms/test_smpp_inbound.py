"""What people write, as an SMSC delivers it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import smpp34

from consumers.receipts.stopwords import is_stop
from consumers.sdk.provider import Provider
from consumers.sdk.receipts import Inbound
from tests.consumers.contract.suite import call
from tests.consumers.sms.smpp_samples import Desk, listening, sms
from tests.consumers.sms.smpp_stub import Smsc, delivery, receipt_text, serving


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with serving() as one:
        yield one


@pytest.fixture
async def heard(smsc: Smsc) -> AsyncIterator[tuple[Provider[Any], Desk]]:
    async with listening(smsc) as both:
        yield both


class TestInbound:
    async def test_stop_is_a_stop(self, heard: tuple[Provider[Any], Desk], smsc: Smsc) -> None:
        _, desk = heard
        assert await smsc.deliver(delivery(b"STOP")) == 0
        (said,) = desk.said
        assert isinstance(said, Inbound)
        assert (said.from_, said.to) == ("+15551230001", "15005550006")
        assert is_stop(said.text)

    @pytest.mark.parametrize(
        ("content", "coding", "expected"),
        [
            (b"Hi \x1b(you\x1b) \x1be \x10", 0, "Hi {you} € Δ"),
            ("退订".encode("utf-16-be"), 8, "退订"),
            ("Grüße".encode("latin-1"), 3, "Grüße"),
            (b"plain", 1, "plain"),
            (b"\x05\x00\x03\x07\x02\x01first", 0, None),
        ],
    )
    async def test_texts_are_read_in_their_alphabet(
        self,
        heard: tuple[Provider[Any], Desk],
        smsc: Smsc,
        content: bytes,
        coding: int,
        expected: str | None,
    ) -> None:
        _, desk = heard
        headed = expected is None
        await smsc.deliver(delivery(content, data_coding=coding, esm_class=0x40 if headed else 0))
        (said,) = desk.said
        assert isinstance(said, Inbound)
        assert said.text == (expected or "first")

    @pytest.mark.parametrize(
        "whole",
        [
            delivery(b"\x05\x00\x03\x07\x02\x02stop", esm_class=0x40),
            delivery(b"\x06\x08\x04\x00\x07\x02\x02stop", esm_class=0x40),
            delivery(b"stop", tlvs=[smpp34.Tlv(0x20F, b"\x02")]),
        ],
    )
    async def test_the_end_of_a_long_text_is_no_stop(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc, whole: bytes
    ) -> None:
        _, desk = heard
        assert await smsc.deliver(whole) == 0
        assert desk.said == []

    async def test_nobody_can_write_a_receipt(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        provider, desk = heard
        await call(provider, sms())
        assert await smsc.deliver(delivery(receipt_text("m1", "DELIVRD"))) == 0
        (said,) = desk.said
        assert isinstance(said, Inbound)

    @pytest.mark.parametrize(
        ("source", "ton", "expected"),
        [("15551230001", 0, "+15551230001"), ("5551230001", 2, "5551230001"), ("Acme", 5, "Acme")],
    )
    async def test_a_number_is_written_as_ours_where_it_is_one(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc, source: str, ton: int, expected: str
    ) -> None:
        _, desk = heard
        await smsc.deliver(delivery(b"STOP", source=source, source_ton=ton))
        (said,) = desk.said
        assert isinstance(said, Inbound)
        assert said.from_ == expected
