"""SMPP against an SMSC of ours: the contract, every class of answers, and links that are lost."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import smpp34
import trustme
from prometheus_client import REGISTRY

from comms.clock import utc_now
from comms.settings import SettingsError
from consumers.outcomes import Accepted, Ambiguous, Blocked, Outcome, Refused, TryLater
from consumers.provider import Attempt, Provider
from consumers.sms.smpp.errors import CODES, code_of
from schemas.messages import SmsMessage
from schemas.segments import segments
from schemas.vocabulary import Channel, Reason
from tests.providers.contract import Fate, ProviderContract, Subject, call
from tests.providers.samples import closed_port, message, only_provider, settings_with, until
from tests.providers.smpp_stub import NACK, PASSWORD, SYSTEM_ID, Smsc, frame, serving

_TO = {
    Fate.ACCEPTED: "+15551230001",
    Fate.REFUSED: "+15551230002",
    Fate.TRANSIENT: "+15551230003",
    Fate.SILENCE: "+15551230004",
}
_ANSWERS = {"15551230001": 0, "15551230002": 0x0B, "15551230003": 0x08, "15551230004": None}
LONG = "The quick brown fox jumps over the lazy dog. " * 8  # three parts of GSM-7


def fated(submit: smpp34.SubmitSm) -> int | None:
    return _ANSWERS[submit.destination_addr]


def sms(fate: Fate = Fate.ACCEPTED, **more: Any) -> SmsMessage:
    made = message(Channel.SMS, _TO[fate])
    assert isinstance(made, SmsMessage)
    return replace(made, **more)


@asynccontextmanager
async def adapter(at: int, /, **table: object) -> AsyncIterator[Provider[Any]]:
    """The adapter for an SMSC on a port; `password` is none of the table's."""
    environment = {"SMPP_PASSWORD": str(table.pop("password", PASSWORD))}
    full = {
        **{"name": "smpp", "host": "127.0.0.1", "port": at, "security": "none"},
        **{"system_id": SYSTEM_ID, "from": "+15005550006", **table},
    }
    settings = settings_with(Channel.SMS, full, environment=environment)
    provider = only_provider(settings, Channel.SMS)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


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
                await call(subject.provider, sms(Fate.SILENCE))
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
        assert outcome.words.provider_message_id == f"m{total}"
        assert f"message_ids={','.join(f'm{n + 1}' for n in range(total))}" in str(
            outcome.words.response
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
    0x03: (Blocked, None),
    0x04: (TryLater, Reason.PROVIDER_ERROR),
    0x05: (TryLater, Reason.PROVIDER_ERROR),
    0x06: (Blocked, None),
    0x07: (Blocked, None),
    0x08: (TryLater, Reason.PROVIDER_ERROR),
    0x0A: (Blocked, None),
    0x0B: (Refused, Reason.INVALID_RECIPIENT),
    0x0C: (Refused, Reason.REJECTED),
    0x0D: (Blocked, None),
    0x0E: (Blocked, None),
    0x0F: (Blocked, None),
    0x14: (TryLater, Reason.RATE_LIMITED),
    0x15: (Blocked, None),
    0x43: (Refused, Reason.REJECTED),
    0x45: (TryLater, Reason.PROVIDER_ERROR),
    0x48: (Blocked, None),
    0x49: (Blocked, None),
    0x4A: (Blocked, None),
    0x4B: (Blocked, None),
    0x50: (Blocked, None),
    0x51: (Blocked, None),
    0x53: (Blocked, None),
    0x54: (Blocked, None),
    0x58: (TryLater, Reason.RATE_LIMITED),
    0x61: (Refused, Reason.REJECTED),
    0x62: (Refused, Reason.REJECTED),
    0x63: (Refused, Reason.REJECTED),
    0x64: (TryLater, Reason.PROVIDER_ERROR),
    0x65: (Refused, Reason.REJECTED),
    0x66: (Refused, Reason.REJECTED),
    0x67: (Blocked, None),
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
            assert outcome.words.code == code_of(status)
            assert code_of(status) in str(outcome.words.response)
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
        assert isinstance(blocked, Blocked)

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
        assert second.words.provider_message_id == "m2"


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
        assert "1 of 3 parts were taken" in str(outcome.words.detail)
        assert "m1" in str(outcome.words.response)
        assert len(smsc.submits) == 2

    @pytest.mark.parametrize("status", [0x08, 0x0F])
    async def test_a_text_broken_off_otherwise_is_in_doubt(
        self, provider: Provider[Any], smsc: Smsc, status: int
    ) -> None:
        self.answers(smsc, 0, 0, status)
        outcome = await call(provider, sms(body=LONG))
        assert isinstance(outcome, Ambiguous)
        assert "2 of 3 parts were taken" in str(outcome.words.detail)
        assert "m1,m2" in str(outcome.words.response)

    async def test_a_later_part_that_came_too_fast_is_offered_again(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        self.answers(smsc, 0, 0x58, 0, 0)
        outcome = await call(provider, sms(body=LONG))
        assert isinstance(outcome, Accepted)
        assert [one.short_message[5] for one in smsc.submits] == [1, 2, 2, 3]
        assert "message_ids=m1,m2,m3" in str(outcome.words.response)

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
        assert "1 of 3 parts were taken" in str(outcome.words.detail)


class TestWindow:
    async def test_no_more_are_unanswered_than_the_window_has_places(self, smsc: Smsc) -> None:
        smsc.holding = True
        async with adapter(smsc.port, window=3) as provider:
            calls = [asyncio.create_task(call(provider, sms())) for _ in range(10)]
            while not all(one.done() for one in calls):
                await until(lambda: smsc.held > 0 or all(one.done() for one in calls))
                smsc.release()
            outcomes = await asyncio.gather(*calls)
        assert smsc.most_unanswered == 3
        assert all(isinstance(one, Accepted) for one in outcomes)
        assert len({one.words.provider_message_id for one in outcomes}) == 10

    async def test_what_never_had_its_turn_was_not_sent(self, smsc: Smsc) -> None:
        smsc.answer = lambda _: None
        async with adapter(smsc.port, window=1, timeout_seconds=0.5) as provider:
            outcomes = await asyncio.gather(*(call(provider, sms()) for _ in range(2)))
        assert {type(one) for one in outcomes} == {Ambiguous, TryLater}
        (late,) = (one for one in outcomes if isinstance(one, TryLater))
        assert late.reason is Reason.TIMEOUT
        assert len(smsc.submits) == 1

    async def test_a_cancelled_call_keeps_its_place_until_it_is_answered(self, smsc: Smsc) -> None:
        smsc.holding = True
        async with adapter(smsc.port, window=1) as provider:
            cancelled = asyncio.create_task(call(provider, sms()))
            await until(lambda: smsc.held == 1)
            cancelled.cancel()
            second = asyncio.create_task(call(provider, sms()))
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert await provider.probe() is None  # a whole turn of the link
            assert len(smsc.submits) == 1
            smsc.holding = False
            smsc.release()
            assert isinstance(await second, Accepted)


class TestLink:
    async def test_a_link_lost_after_the_submission_leaves_it_in_doubt(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        smsc.holding = True
        asked = asyncio.create_task(call(provider, sms()))
        await until(lambda: smsc.held == 1)
        smsc.drop()
        async with asyncio.timeout(10):  # not the call's own end, which is later
            assert isinstance(await asked, Ambiguous)

    async def test_it_binds_again_by_itself(self, provider: Provider[Any], smsc: Smsc) -> None:
        assert isinstance(await call(provider, sms()), Accepted)
        smsc.drop()
        await until(lambda: len(smsc.binds) == 2)
        assert isinstance(await call(provider, sms()), Accepted)

    async def test_it_binds_again_after_the_smsc_has_unbound(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        assert await provider.probe() is None
        smsc.write(frame(0x06, 0, 9))
        await until(lambda: len(smsc.binds) == 2)
        assert isinstance(await call(provider, sms()), Accepted)

    async def test_an_smsc_that_unbinds_may_still_answer(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        smsc.holding = True
        asked = asyncio.create_task(call(provider, sms()))
        await until(lambda: smsc.held == 1)
        assert await smsc.ask(0x06) == (0x80000006, 0)
        smsc.release()
        assert isinstance(await asked, Accepted)

    async def test_it_binds_again_where_the_smsc_says_it_is_not_bound(
        self, provider: Provider[Any], smsc: Smsc
    ) -> None:
        smsc.answer = lambda _: 0x04
        assert isinstance(await call(provider, sms()), TryLater)
        await until(lambda: len(smsc.binds) == 2)

    async def test_what_is_no_smpp_ends_the_link(self, provider: Provider[Any], smsc: Smsc) -> None:
        assert await provider.probe() is None
        smsc.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await until(lambda: len(smsc.binds) == 2)

    async def test_questions_whether_it_is_there_are_asked_and_answered(self, smsc: Smsc) -> None:
        async with adapter(smsc.port, enquire_link_seconds=0.1) as provider:
            await until(lambda: smsc.enquiries >= 3)
            assert len(smsc.binds) == 1
            assert isinstance(await call(provider, sms()), Accepted)

    async def test_an_smsc_that_answers_no_question_is_left_and_bound_anew(
        self, smsc: Smsc
    ) -> None:
        smsc.answers_enquiries = False
        async with adapter(smsc.port, enquire_link_seconds=0.1) as provider:
            await until(lambda: len(smsc.binds) >= 2)
            assert await asyncio.wait_for(provider.probe(), 20)

    async def test_what_we_are_asked_is_answered(self, provider: Provider[Any], smsc: Smsc) -> None:
        assert await provider.probe() is None
        assert await smsc.ask(0x15) == (0x80000015, 0)
        assert await smsc.ask(0x103) == (NACK, 0x03)

    async def test_it_says_good_bye(self, smsc: Smsc) -> None:
        async with adapter(smsc.port) as provider:
            assert await provider.probe() is None
        assert smsc.unbinds == 1


class TestBind:
    @pytest.mark.parametrize("status", [0x0D, 0x0E, 0x0F, 0x53, 0x0C])
    async def test_a_refused_bind_is_the_accounts_fault(self, smsc: Smsc, status: int) -> None:
        smsc.bind_status = status
        async with adapter(smsc.port) as provider:
            outcome = await call(provider, sms())
            assert isinstance(outcome, Blocked)
            assert outcome.words.code == code_of(status)
            assert "bind" in str(outcome.words.detail)
            assert "bind" in str(await provider.probe())
            assert smsc.submits == []

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (0x05, Reason.PROVIDER_ERROR),
            (0x08, Reason.PROVIDER_ERROR),
            (0x58, Reason.RATE_LIMITED),
            (0x401, Reason.PROVIDER_ERROR),
        ],
    )
    async def test_a_bind_refused_for_the_moment_is_for_later(
        self, smsc: Smsc, status: int, reason: Reason
    ) -> None:
        smsc.bind_status = status
        async with adapter(smsc.port) as provider:
            outcome = await call(provider, sms())
        assert isinstance(outcome, TryLater)
        assert outcome.reason is reason

    async def test_a_probe_tries_at_once_whether_the_account_was_put_right(
        self, smsc: Smsc
    ) -> None:
        smsc.bind_status = 0x0E
        async with adapter(smsc.port) as provider:
            assert isinstance(await call(provider, sms()), Blocked)
            smsc.bind_status = 0
            assert await provider.probe() is None
            assert isinstance(await call(provider, sms()), Accepted)

    async def test_an_smsc_that_does_not_answer_the_bind_is_for_later(self) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server, adapter(server.sockets[0].getsockname()[1], timeout_seconds=0.5) as one:
            outcome = await call(one, sms())
        assert isinstance(outcome, TryLater)

    async def test_a_trusted_smsc_is_spoken_to_in_tls_and_another_is_not(
        self, tmp_path: Path
    ) -> None:
        authority, other = trustme.CA(), trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        files = {"right": authority, "wrong": other}
        for name, one in files.items():
            one.cert_pem.write_to_path(tmp_path / name)
        async with serving(tls=context) as smsc:
            tls = {"security": "tls", "ca_file": str(tmp_path / "right")}
            async with adapter(smsc.port, **tls) as provider:
                assert isinstance(await call(provider, sms()), Accepted)
            tls["ca_file"] = str(tmp_path / "wrong")
            async with adapter(smsc.port, **tls) as provider:
                outcome = await call(provider, sms())
        assert isinstance(outcome, TryLater)
        assert "trusted" in str(outcome.words.detail)
        assert len(smsc.binds) == 1


async def test_nothing_secret_or_personal_is_logged(
    smsc: Smsc, capsys: pytest.CaptureFixture[str]
) -> None:
    smsc.bind_status = 0x0E
    async with adapter(smsc.port, enquire_link_seconds=0.2) as provider:
        await call(provider, sms(body="Your code is 551342"))
        smsc.bind_status, smsc.answer = 0, lambda _: 0x4FE
        assert await provider.probe() is None
        await call(provider, sms(body="Your code is 551342"))
        smsc.answers_enquiries = False
        await until(lambda: len(smsc.binds) >= 3)
        smsc.drop()
    said = "".join(capsys.readouterr())
    assert "smpp.bound" in said
    assert "0x000004FE" in said
    personal = (PASSWORD, SYSTEM_ID, "5551230001", "551342")
    assert not [one for one in personal if one in said]


class TestTable:
    @pytest.mark.parametrize(
        ("option", "value", "problem"),
        [
            ("window", 0, "at least 1"),
            ("window", 2.5, "whole"),
            ("port", "x", "number"),
            ("security", "ssl", "one of"),
            ("receipt_ids", "octal", "one of"),
            ("long_texts", "sar", "one of"),
            ("source_ton", 300, "at most"),
            ("dest_npi", 300, "at most"),
            ("from", "Ácme", "ASCII"),
            ("system_id", "ácme", "ASCII"),
            ("codes", {"0x40B": "gone"}, "one of"),
            ("codes", {"forty": "account"}, "must be a number"),
            ("codes", {"0x40B": 7}, "table of texts"),
            ("timeout_seconds", 100, "call_timeout_seconds"),
            ("pasword_env", "X", "no such option"),
        ],
    )
    async def test_a_mistake_names_its_key(self, option: str, value: object, problem: str) -> None:
        with pytest.raises(SettingsError, match=problem) as raised:
            async with adapter(1, **{option: value}):
                pass
        assert option in str(raised.value)

    def test_without_the_library_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [one for one in sys.modules if one.startswith("consumers.sms.smpp.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "smpp34", None)
        table = {"name": "smpp", "host": "x", "system_id": "x", "from": "Acme"}
        settings = settings_with(Channel.SMS, table, environment={"SMPP_PASSWORD": "x"})
        with pytest.raises(SettingsError, match=r"communications\[smpp\]"):
            only_provider(settings, Channel.SMS)
