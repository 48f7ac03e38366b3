"""SMPP against an SMSC of ours: the contract, what is submitted, and every class of answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from comms.platform.clock import utc_now
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused, TryLater
from consumers.sdk.provider import Attempt, Provider
from consumers.sms.smpp.errors import CODES, code_of
from schemas.segments import segments
from schemas.vocabulary import Reason
from tests.consumers.contract.samples import closed_port, until
from tests.consumers.contract.suite import Fate, ProviderContract, Subject, call
from tests.consumers.sms.smpp_samples import LONG, adapter, fated, sms
from tests.consumers.sms.smpp_stub import NACK, PASSWORD, SYSTEM_ID, Smsc, frame, serving


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with serving() as one:
        yield one


@pytest.fixture
async def provider(smsc: Smsc) -> AsyncIterator[Provider[Any]]:
    async with adapter(smsc.port) as one:
        yield one


class TestContract(ProviderContract):
    """What every adapter owes."""

    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        async with (
            serving(Smsc(answer=fated)) as server,
            adapter(server.port) as provider,
            adapter(server.port, timeout_seconds=0.5) as hasty,
            adapter(closed_port()) as unreachable,
        ):
            yield Subject(
                provider=provider,
                hasty=hasty,
                unreachable=unreachable,
                message=sms,
                port=server.port,
                secrets=(PASSWORD, SYSTEM_ID),
            )

    async def test_it_works_on_after_a_cancelled_call(self, subject: Subject) -> None:
        """They share a link, so it is not connections that are counted."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await call(subject.provider, sms(Fate.NO_RESPONSE))
        assert isinstance(await call(subject.provider, sms()), Accepted)

    async def test_close_releases_its_connections(self, subject: Subject) -> None:
        await subject.hasty.close()
        await super().test_close_releases_its_connections(subject)


class TestSubmission:
    async def test_it_says_what_the_protocol_wants(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        await call(provider, sms(body="Hi {you} €"))
        (submit,) = smsc.submits
        assert (submit.destination_addr, submit.dest_addr_ton) == ("15551230001", 1)
        assert (submit.source_addr, submit.source_addr_ton) == ("15005550006", 1)
        assert submit.short_message == b"Hi \x1b(you\x1b) \x1be"
        assert (submit.data_coding, submit.esm_class) == (0, 0)
        assert submit.registered_delivery == 1
        assert smsc.binds[0] == b"acme-one\0s3cr3t-w\0\0\x34\0\0\0"

    @pytest.mark.parametrize(
        ("sender", "expected"),
        [
            ("Acme", ("Acme", 5, 0)),
            ("12345", ("12345", 3, 0)),
            ("+15005550009", ("15005550009", 1, 1)),
        ],
    )
    async def test_a_senders_type_is_what_it_looks_like(
        self, provider: Provider[Any], smsc: Smsc, sender: str, expected: tuple[str, int, int]
    ) -> None:
        await call(provider, sms(sender=sender))
        (submit,) = smsc.submits
        found = (submit.source_addr, submit.source_addr_ton, submit.source_addr_npi)
        assert found == expected

    async def test_types_and_plans_may_be_set(self, smsc: Smsc) -> None:
        table = {"source_ton": 0, "source_npi": 8, "dest_ton": 0, "dest_npi": 0}
        async with adapter(smsc.port, service_type="CMT", system_type="VMA", **table) as provider:
            await call(provider, sms())
        (submit,) = smsc.submits
        assert (submit.source_addr_ton, submit.source_addr_npi) == (0, 8)
        assert (submit.dest_addr_ton, submit.dest_addr_npi) == (0, 0)
        assert submit.service_type == "CMT"
        assert b"\0VMA\0" in smsc.binds[0]

    async def test_what_expires_says_how_long_it_is_worth_delivering(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        made = sms()
        left = timedelta(days=1, hours=2, minutes=3, seconds=4)
        await call(provider, replace(made, expires_at=utc_now() + left))
        (submit,) = smsc.submits
        assert submit.validity_period in ("000001020304000R", "000001020303000R")

    async def test_a_long_text_is_parts_that_reassemble(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        text = "Grüße 🎉 — чуть-чуть весны завтра. " * 6
        outcome = await call(provider, sms(body=text))
        assert len(smsc.submits) == segments(text).count > 1
        assert {one.esm_class for one in smsc.submits} == {0x40}
        assert {one.data_coding for one in smsc.submits} == {8}
        headers = [one.short_message[:6] for one in smsc.submits]
        total = len(headers)
        assert [one[4:] for one in headers] == [bytes((total, n + 1)) for n in range(total)]
        assert len({one[:4] for one in headers}) == 1
        together = b"".join(one.short_message[6:] for one in smsc.submits)
        assert together.decode("utf-16-be") == text
        assert isinstance(outcome, Accepted)
        assert outcome.response.provider_message_id == f"m{total}"
        assert f"message_ids={','.join(f'm{n + 1}' for n in range(total))}" in str(
            outcome.response.raw
        )

    async def test_a_repetition_has_the_same_reference_and_another_chapter_its_own(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        made = sms(body=LONG)
        for attempt in (Attempt(made.id, 1), Attempt(made.id, 2), Attempt(made.id, 3, 3)):
            await provider.send(made, attempt)
        first, second, third = (smsc.submits[n].short_message[3] for n in (0, 3, 6))
        assert first == second
        assert len(smsc.submits) == 9
        assert {first, third} <= set(range(256))

    async def test_a_long_text_may_go_whole(self, smsc: Smsc) -> None:
        async with adapter(smsc.port, long_texts="payload") as provider:
            outcome = await call(provider, sms(body=LONG))
        (submit,) = smsc.submits
        assert (submit.short_message, submit.esm_class) == (b"", 0)
        assert [(one.tag, one.value) for one in submit.tlvs] == [(0x0424, LONG.encode())]
        assert isinstance(outcome, Accepted)

    async def test_the_alphabet_may_be_ucs2_alone(self, smsc: Smsc) -> None:
        async with adapter(smsc.port, alphabet="ucs-2") as provider:
            await call(provider, sms(body="Hello"))
        assert smsc.submits[0].short_message == "Hello".encode("utf-16-be")
        assert smsc.submits[0].data_coding == 8


_EXPECTED: dict[int, tuple[type[Outcome], Reason | None]] = {
    0x01: (Refused, Reason.INVALID_CONTENT),
    0x02: (Refused, Reason.REJECTED),
    0x03: (AccountError, None),
    0x04: (TryLater, Reason.PROVIDER_ERROR),
    0x05: (TryLater, Reason.PROVIDER_ERROR),
    0x06: (AccountError, None),
    0x07: (AccountError, None),
    0x08: (TryLater, Reason.PROVIDER_ERROR),
    0x0A: (AccountError, None),
    0x0B: (Refused, Reason.INVALID_RECIPIENT),
    0x0C: (Refused, Reason.REJECTED),
    0x0D: (AccountError, None),
    0x0E: (AccountError, None),
    0x0F: (AccountError, None),
    0x14: (TryLater, Reason.RATE_LIMITED),
    0x15: (AccountError, None),
    0x43: (Refused, Reason.REJECTED),
    0x45: (TryLater, Reason.PROVIDER_ERROR),
    0x48: (AccountError, None),
    0x49: (AccountError, None),
    0x4A: (AccountError, None),
    0x4B: (AccountError, None),
    0x50: (AccountError, None),
    0x51: (AccountError, None),
    0x53: (AccountError, None),
    0x54: (AccountError, None),
    0x58: (TryLater, Reason.RATE_LIMITED),
    0x61: (Refused, Reason.REJECTED),
    0x62: (Refused, Reason.REJECTED),
    0x63: (Refused, Reason.REJECTED),
    0x64: (TryLater, Reason.PROVIDER_ERROR),
    0x65: (Refused, Reason.REJECTED),
    0x66: (Refused, Reason.REJECTED),
    0x67: (AccountError, None),
    0xC0: (Refused, Reason.REJECTED),
    0xC1: (Refused, Reason.REJECTED),
    0xC2: (Refused, Reason.REJECTED),
    0xC3: (Refused, Reason.REJECTED),
    0xC4: (Refused, Reason.REJECTED),
    0xFE: (TryLater, Reason.PROVIDER_ERROR),
    0xFF: (TryLater, Reason.PROVIDER_ERROR),
    0x40B: (TryLater, Reason.PROVIDER_ERROR),  # a carrier's own
}


def unknown_codes(code: str) -> float:
    labels = {"channel": "sms", "provider": "smpp", "code": code}
    return REGISTRY.get_sample_value("comms_unknown_codes_total", labels) or 0.0


class TestAnswers:
    async def test_every_status_comes_to_what_it_means(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        assert {code_of(one) for one in _EXPECTED} >= {c for c in CODES.codes if c[:2] == "0x"}
        found = {}
        for status in _EXPECTED:
            smsc.answer = lambda _, status=status: status  # type: ignore[misc]
            outcome = await call(provider, sms())
            found[status] = (type(outcome), getattr(outcome, "reason", None))
            assert outcome.response.code == code_of(status)
            assert code_of(status) in str(outcome.response.raw)
        assert found == _EXPECTED

    async def test_a_senders_fault_is_the_messages_where_it_named_the_sender(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        smsc.answer = lambda _: 0x0A
        outcome = await call(provider, sms(sender="Acme"))
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.INVALID_CONTENT

    async def test_a_carriers_own_code_is_counted(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        before = unknown_codes("0x00000411")
        smsc.answer = lambda _: 0x411
        assert isinstance(await call(provider, sms()), TryLater)
        assert unknown_codes("0x00000411") == before + 1

    async def test_what_a_carrier_means_by_its_codes_may_be_told(self, smsc: Smsc) -> None:
        codes = {"0x40B": "invalid_recipient", "1041": "account", "0x45": "rate_limited"}
        async with adapter(smsc.port, codes=codes) as provider:
            smsc.answer = lambda _: 0x40B
            refused = await call(provider, sms())
            smsc.answer = lambda _: 1041
            blocked = await call(provider, sms())
            given = iter((0, 0x45, 0, 0))
            smsc.answer = lambda _: next(given)
            assert isinstance(await call(provider, sms(body=LONG)), Accepted)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.INVALID_RECIPIENT
        assert isinstance(blocked, AccountError)

    async def test_a_generic_nack_is_an_answer(self, provider: Provider[Any], smsc: Smsc) -> None:
        smsc.answer = lambda _: None
        asked = asyncio.create_task(call(provider, sms()))
        await until(lambda: len(smsc.submits) == 1)
        smsc.write(frame(NACK, 0x58, smsc.submits[0].sequence_number))
        outcome = await asked
        assert isinstance(outcome, TryLater)
        assert outcome.reason is Reason.RATE_LIMITED

    async def test_a_late_answer_is_nobody_elses(self, smsc: Smsc) -> None:
        smsc.holding = True
        async with adapter(smsc.port, timeout_seconds=0.3) as provider:
            assert isinstance(await call(provider, sms()), Ambiguous)
            smsc.holding = False
            smsc.release()
            second = await call(provider, sms())
        assert isinstance(second, Accepted)
        assert second.response.provider_message_id == "m2"


class TestParts:
    """A text of three parts, of which some are refused."""

    def answers(self, smsc: Smsc, *statuses: int | None) -> None:
        given = iter(statuses)
        smsc.answer = lambda _: next(given)

    async def test_a_first_part_that_is_refused_means_that_nothing_was_sent(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        self.answers(smsc, 0x58)
        outcome = await call(provider, sms(body=LONG))
        assert isinstance(outcome, TryLater)
        assert len(smsc.submits) == 1

    async def test_a_later_part_refused_for_good_fails_the_text_and_says_what_went(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        self.answers(smsc, 0, 0x0B)
        outcome = await call(provider, sms(body=LONG))
        assert isinstance(outcome, Refused)
        assert "1 of 3 parts were taken" in str(outcome.response.detail)
        assert "m1" in str(outcome.response.raw)
        assert len(smsc.submits) == 2

    @pytest.mark.parametrize("status", [0x08, 0x0F])
    async def test_a_text_broken_off_otherwise_is_in_doubt(
        self, provider: Provider[Any], smsc: Smsc, status: int
    ) -> None:
        self.answers(smsc, 0, 0, status)
        outcome = await call(provider, sms(body=LONG))
        assert isinstance(outcome, Ambiguous)
        assert "2 of 3 parts were taken" in str(outcome.response.detail)
        assert "m1,m2" in str(outcome.response.raw)

    async def test_a_later_part_that_came_too_fast_is_offered_again(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        self.answers(smsc, 0, 0x58, 0, 0)
        outcome = await call(provider, sms(body=LONG))
        assert isinstance(outcome, Accepted)
        assert [one.short_message[5] for one in smsc.submits] == [1, 2, 2, 3]
        assert "message_ids=m1,m2,m3" in str(outcome.response.raw)

    async def test_haste_that_does_not_end_leaves_the_text_in_doubt(self, smsc: Smsc) -> None:
        smsc.answer = lambda submit: 0 if submit.short_message[5] == 1 else 0x14
        async with adapter(smsc.port, timeout_seconds=1.2) as provider:
            outcome = await call(provider, sms(body=LONG))
        assert isinstance(outcome, Ambiguous)
        assert len(smsc.submits) >= 3

    async def test_a_link_lost_between_parts_leaves_the_text_in_doubt(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        self.answers(smsc, 0, None)
        asked = asyncio.create_task(call(provider, sms(body=LONG)))
        await until(lambda: len(smsc.submits) == 2)
        smsc.drop()
        outcome = await asked
        assert isinstance(outcome, Ambiguous)
        assert "1 of 3 parts were taken" in str(outcome.response.detail)
