"""What an SMSC delivers: receipts in every form, and when each is answered."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import smpp34
from prometheus_client import REGISTRY

from consumers.sdk.outcomes import Accepted, Ambiguous
from consumers.sdk.provider import Provider
from consumers.sdk.receipts import Receipt, UnmatchedReceipt
from consumers.sms.smpp import SMPP
from consumers.sms.smpp.receipts import IdForm, Sending, SentIds
from schemas.ids import new_message_id
from schemas.vocabulary import Reason
from tests.consumers.contract.samples import until
from tests.consumers.contract.suite import call
from tests.consumers.sms.smpp_samples import LONG, Desk, adapter, listening, sms
from tests.consumers.sms.smpp_stub import Smsc, delivery, receipt, receipt_text, serving

AGAIN, NEVER = 0x64, 0x65


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with serving() as one:
        yield one


@pytest.fixture
async def heard(smsc: Smsc) -> AsyncIterator[tuple[Provider[Any], Desk]]:
    async with listening(smsc) as both:
        yield both


def by_tlv(theirs: str, state: int, text: bytes = b"") -> bytes:
    """A receipt by its parameters."""
    tlvs = [smpp34.Tlv(0x1E, theirs.encode() + b"\0"), smpp34.Tlv(0x427, bytes((state,)))]
    return delivery(text, esm_class=0x04, tlvs=tlvs)


def test_the_kind_owes_a_receipt_for_every_message() -> None:
    assert SMPP.expects_receipts


class TestReceipts:
    @pytest.mark.parametrize(
        "made",
        [
            lambda theirs: receipt(theirs, "DELIVRD"),
            lambda theirs: by_tlv(theirs, 2),
            lambda theirs: by_tlv(theirs, 2, receipt_text("other", "ENROUTE")),
            lambda theirs: delivery(  # a payload, and the kind left out
                tlvs=[
                    smpp34.Tlv(0x1E, theirs.encode() + b"\0"),
                    smpp34.Tlv(0x424, receipt_text(theirs, "DELIVRD")),
                ]
            ),
            lambda theirs: delivery(f"ID:{theirs} Stat:delivrd".encode(), esm_class=0x04),
        ],
    )
    async def test_a_receipt_of_what_was_sent_here_finds_its_message(
        self,
        heard: tuple[Provider[Any], Desk],
        smsc: Smsc,
        made: Callable[[str], bytes],
    ) -> None:
        provider, desk = heard
        message = sms()
        outcome = await call(provider, message)
        theirs = str(outcome.response.provider_message_id)
        assert await smsc.deliver(made(theirs)) == 0
        (said,) = desk.said
        assert isinstance(said, Receipt)
        assert (said.message_id, said.delivered) == (message.id, True)
        assert said.response.provider_message_id == theirs
        assert said.response.code == "DELIVRD"
        assert "Hello" not in str(said.response.raw)

    @pytest.mark.parametrize(
        ("state", "number"), [("EXPIRED", 3), ("DELETED", 4), ("UNDELIV", 5), ("REJECTD", 8)]
    )
    async def test_what_was_not_delivered_says_why(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc, state: str, number: int
    ) -> None:
        _, desk = heard
        assert await smsc.deliver(receipt("m7", state, "011")) == 0
        assert await smsc.deliver(by_tlv("m8", number)) == 0
        for said, code in zip(desk.said, (f"{state}:011", state), strict=True):
            assert isinstance(said, UnmatchedReceipt)
            assert not said.delivered
            assert said.reason is Reason.UNDELIVERED
            assert said.response.code == code
        assert [one.response.provider_message_id for one in desk.said] == ["m7", "m8"]  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "whole",
        [
            receipt("m1", "ENROUTE"),
            receipt("m1", "ACCEPTD"),
            receipt("m1", "UNKNOWN"),
            receipt("m1", "SHRUGGED"),
            by_tlv("m1", 7),
            delivery(b"nothing that is known", esm_class=0x04),
            delivery(receipt_text("m1", "DELIVRD"), esm_class=0x20),  # on its way
            delivery(b"seen", esm_class=0x08),  # a handset's own acknowledgement
        ],
    )
    async def test_what_is_not_final_is_answered_and_not_told(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc, whole: bytes
    ) -> None:
        _, desk = heard
        assert await smsc.deliver(whole) == 0
        assert desk.said == []

    async def test_a_state_that_nobody_knows_is_counted(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        labels = {"channel": "sms", "provider": "smpp", "code": "MISLAID"}
        before = REGISTRY.get_sample_value("comms_unknown_codes_total", labels) or 0.0
        await smsc.deliver(receipt("m1", "MISLAID"))
        assert REGISTRY.get_sample_value("comms_unknown_codes_total", labels) == before + 1

    async def test_a_receipt_that_overtakes_the_answer_waits_for_it(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        provider, desk = heard
        smsc.holding = True
        message = sms()
        asked = asyncio.create_task(call(provider, message))
        await until(lambda: smsc.held == 1)
        delivered = asyncio.create_task(smsc.deliver(receipt("m1", "DELIVRD")))
        assert await provider.probe() is None  # the receipt was read by then
        smsc.release()
        assert isinstance(await asked, Accepted)
        assert await delivered == 0
        (said,) = desk.said
        assert isinstance(said, Receipt)
        assert said.message_id == message.id

    @pytest.mark.parametrize("source", ["5551230001", "15005550006"])
    async def test_it_waits_for_that_whatever_form_the_number_has(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc, source: str
    ) -> None:
        provider, desk = heard
        smsc.holding = True
        asked = asyncio.create_task(call(provider, sms()))
        await until(lambda: smsc.held == 1)
        swapped = "5551230001" if source == "15005550006" else "15005550006"
        whole = delivery(
            receipt_text("m1", "DELIVRD"), esm_class=0x04, source=source, destination=swapped
        )
        delivered = asyncio.create_task(smsc.deliver(whole))
        assert await provider.probe() is None
        smsc.release()
        await asked
        assert await delivered == 0
        assert isinstance(desk.said[0], Receipt)

    async def test_what_nothing_under_way_can_be_meant_by_waits_for_nothing(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        provider, desk = heard
        smsc.holding = True
        asked = asyncio.create_task(call(provider, sms()))
        await until(lambda: smsc.held == 1)
        other = delivery(receipt_text("m7", "DELIVRD"), esm_class=0x04, source="15551239999")
        assert await smsc.deliver(other) == 0
        assert smsc.held == 1
        assert isinstance(desk.said[0], UnmatchedReceipt)
        smsc.release()
        await asked

    async def test_a_late_answer_places_the_receipt_of_a_call_in_doubt(self, smsc: Smsc) -> None:
        smsc.holding = True
        async with listening(smsc, timeout_seconds=0.3) as (provider, desk):
            message = sms()
            assert isinstance(await call(provider, message), Ambiguous)
            smsc.release()
            assert await smsc.deliver(receipt("m1", "DELIVRD")) == 0
        (said,) = desk.said
        assert isinstance(said, Receipt)
        assert said.message_id == message.id

    @pytest.mark.parametrize(
        ("form", "answered", "said"),
        [("decimal", "0A3F", "0000002623"), ("hex", "2623", "0A3F"), ("same", "0A3F", "0A3F")],
    )
    async def test_ids_may_be_written_otherwise_in_receipts(
        self, smsc: Smsc, form: str, answered: str, said: str
    ) -> None:
        smsc.next_id = lambda _: answered
        async with listening(smsc, receipt_ids=form) as (provider, desk):
            message = sms()
            outcome = await call(provider, message)
            await smsc.deliver(receipt(said, "DELIVRD"))
        (one,) = desk.said
        assert isinstance(one, Receipt)
        assert one.message_id == message.id
        # And by the ledger, where another process hears it.
        assert one.response.provider_message_id == outcome.response.provider_message_id

    def test_ids_in_another_form_than_the_table_says_stay_as_they_are(self) -> None:
        assert IdForm.DECIMAL.of_answer("not-hex") == "not-hex"
        assert IdForm.HEX.of_answer("a1") == "a1"
        assert IdForm.DECIMAL.of_receipt("000") == "000"

    def test_the_oldest_ids_are_forgotten(self) -> None:
        sent = SentIds(most=2)
        for theirs in ("a", "b", "c"):
            sent.add(theirs, Sending(message_id=new_message_id(), parts=1))
        assert [sent.get(one) is not None for one in "abc"] == [False, True, True]


class TestParts:
    async def test_a_long_text_is_delivered_when_its_last_part_is(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        provider, desk = heard
        message = sms(body=LONG)
        outcome = await call(provider, message)
        for theirs in ("m1", "m2"):
            assert await smsc.deliver(receipt(theirs, "DELIVRD")) == 0
        assert desk.said == []
        assert await smsc.deliver(receipt("m3", "DELIVRD")) == 0
        (said,) = desk.said
        assert isinstance(said, Receipt)
        assert (said.message_id, said.delivered) == (message.id, True)
        assert said.response.provider_message_id == outcome.response.provider_message_id == "m3"

    async def test_any_part_that_fails_fails_the_text(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        provider, desk = heard
        message = sms(body=LONG)
        await call(provider, message)
        await smsc.deliver(receipt("m2", "UNDELIV"))
        (said,) = desk.said
        assert isinstance(said, Receipt)
        assert (said.message_id, said.delivered) == (message.id, False)
        assert said.response.provider_message_id == "m3"  # the attempt's, which the ledger knows

    async def test_parts_of_a_text_that_was_broken_off_say_nothing_of_delivery(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        provider, desk = heard
        answers = iter((0, 0x08))
        smsc.answer = lambda _: next(answers)
        assert isinstance(await call(provider, sms(body=LONG)), Ambiguous)
        assert await smsc.deliver(receipt("m1", "DELIVRD")) == 0
        assert desk.said == []


class TestAnswering:
    async def test_it_is_answered_when_it_is_on_record_and_not_before(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        provider, desk = heard
        desk.gate.clear()
        delivered = asyncio.create_task(smsc.deliver(receipt("m1", "DELIVRD")))
        await asyncio.sleep(0)
        assert await provider.probe() is None  # a question and its answer later
        assert not delivered.done()
        desk.gate.set()
        assert await delivered == 0

    async def test_what_cannot_be_recorded_is_asked_for_again(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        _, desk = heard
        desk.closed = True
        assert await smsc.deliver(receipt("m1", "DELIVRD")) == AGAIN
        desk.closed = False
        assert await smsc.deliver(receipt("m1", "DELIVRD")) == 0
        assert len(desk.said) == 1

    async def test_before_anybody_listens_it_waits(self, smsc: Smsc) -> None:
        async with adapter(smsc.port) as provider:
            assert await provider.probe() is None
            delivered = asyncio.create_task(smsc.deliver(receipt("m1", "DELIVRD")))
            await asyncio.sleep(0)
            assert await provider.probe() is None
            assert not delivered.done()
            desk = Desk()
            desk.gate.set()
            task = asyncio.create_task(provider.listen(desk.tell))  # type: ignore[attr-defined]
            assert await delivered == 0
            task.cancel()

    async def test_more_than_can_wait_is_asked_for_again(self, smsc: Smsc) -> None:
        async with adapter(smsc.port) as provider:
            assert await provider.probe() is None
            for n in range(1_000):
                smsc.write(receipt(f"m{n}", "DELIVRD"))
            assert await smsc.deliver(receipt("one too many", "DELIVRD")) == AGAIN

    async def test_what_cannot_be_read_is_refused_for_good(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        whole = delivery(b"x" * 50)
        cut = len(whole) - 30
        broken = cut.to_bytes(4) + whole[4:cut]
        assert await smsc.deliver(broken) == NEVER
        assert await smsc.deliver(receipt("m1", "DELIVRD")) == 0

    async def test_after_a_lost_link_it_hears_on_the_next(
        self, heard: tuple[Provider[Any], Desk], smsc: Smsc
    ) -> None:
        _, desk = heard
        smsc.drop()
        await until(lambda: len(smsc.binds) == 2 and len(smsc.writers) == 1)
        assert await smsc.deliver(receipt("m1", "DELIVRD")) == 0
        assert len(desk.said) == 1
