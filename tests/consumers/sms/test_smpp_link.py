"""The link of SMPP: its window, its bind, how it is lost and made again; and the options."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from comms.platform.settings import SettingsError
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, TryLater
from consumers.sdk.provider import Provider
from consumers.sms.smpp.errors import code_of
from schemas.vocabulary import Channel, Reason
from tests.consumers.contract.samples import only_provider, settings_with, until
from tests.consumers.contract.suite import call
from tests.consumers.sms.smpp_samples import adapter, sms
from tests.consumers.sms.smpp_stub import NACK, PASSWORD, SYSTEM_ID, Smsc, frame, serving


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with serving() as one:
        yield one


@pytest.fixture
async def provider(smsc: Smsc) -> AsyncIterator[Provider[Any]]:
    async with adapter(smsc.port) as one:
        yield one


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
        assert len({one.response.provider_message_id for one in outcomes}) == 10

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
            assert isinstance(outcome, AccountError)
            assert outcome.response.code == code_of(status)
            assert "bind" in str(outcome.response.detail)
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
            assert isinstance(await call(provider, sms()), AccountError)
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
        assert "trusted" in str(outcome.response.detail)
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
            ("codes", {"0x40B": 7}, "must be a text"),
            ("timeout_seconds", 100, "call_timeout_seconds"),
            ("pasword_env", "X", "no such setting"),
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
