"""SMTP against a real server: the contract, and all the ways of saying yes, no and nothing."""

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage as Mime
from pathlib import Path
from typing import Any

import pytest
import trustme

from consumers.sdk.outcomes import Accepted, AccountError, Outcome, Refused, TryLater
from consumers.sdk.provider import Provider
from schemas.messages import Attachment, EmailMessage
from schemas.vocabulary import Channel, Reason
from tests.consumers.contract.samples import closed_port, only_provider, settings_with, until
from tests.consumers.contract.samples import email as mail_to
from tests.consumers.contract.suite import Fate, ProviderContract, Subject, call, connections_to
from tests.consumers.email.mails import LOGO, ONE_CLICK, shown_mail
from tests.consumers.email.mailserver import PASSWORD, USERNAME, MailServer, serving

_RECIPIENTS = {
    Fate.ACCEPTED: "ann@example.com",
    Fate.REFUSED: "rcpt_550_5.1.1@example.com",
    Fate.TRANSIENT: "data_451_4.3.0@example.com",
    Fate.NO_RESPONSE: "silent@example.com",
}


@asynccontextmanager
async def adapter(port: int, **table: object) -> AsyncIterator[Provider[Any]]:
    """The adapter for a server on `port`, patient unless the table says otherwise."""
    full = {
        **{"name": "smtp", "host": "localhost", "port": port, "security": "none"},
        **{"from": "Acme <news@acme.example>", "local_hostname": "client.example"},
        **table,
    }
    environment = {"SMTP_PASSWORD": PASSWORD}
    settings = settings_with(Channel.EMAIL, full, environment=environment)
    provider = only_provider(settings, Channel.EMAIL)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with serving() as server:
        yield server


@pytest.fixture
async def provider(mails: MailServer) -> AsyncIterator[Provider[Any]]:
    async with adapter(mails.port) as one:
        yield one


@pytest.fixture
async def subject() -> AsyncIterator[Subject]:
    login = {"username": USERNAME, "password_env": "SMTP_PASSWORD", "host": "127.0.0.1"}
    async with (
        serving(login=True) as server,
        adapter(server.port, **login) as provider,
        adapter(server.port, timeout_seconds=0.5, **login) as hasty,
        adapter(closed_port(), **login) as unreachable,
    ):
        yield Subject(
            provider=provider,
            hasty=hasty,
            unreachable=unreachable,
            message=lambda fate: mail_to(_RECIPIENTS[fate]),
            port=server.port,
            secrets=(PASSWORD,),
        )


class TestSmtp(ProviderContract):
    """The contract, on a server that wants a login."""


def parsed(mails: MailServer) -> Mime:
    """The one mail that was taken, read by the standard library."""
    assert len(mails.deliveries) == 1
    found = email.message_from_bytes(mails.deliveries[0].content, policy=email.policy.default)
    assert isinstance(found, Mime)
    return found


def _file(name: str, kind: str, content: bytes) -> Attachment:
    return Attachment(filename=name, content_type=kind, content=content)


def _full() -> EmailMessage:
    return mail_to(
        "Änn Müller <ann@example.com>",
        subject="Grüße aus Köln, and a subject that is long enough to be folded in two lines",
        text="Dear Änn,\n.a line with a dot\nFrom here\n" + "long " * 300 + "\n",
        html="<p>Dear Änn</p>",
        cc=("Bob <bob@example.com>",),
        bcc=("carol@example.com",),
        reply_to="Desk <desk@acme.example>",
        headers={"X-Campaign": "spring"},
        attachments=(
            _file("Rechnung März.pdf", "application/pdf", bytes(range(256)) * 40),
            _file("note.txt", "text/plain", b"one\ntwo\n"),
        ),
    )


async def test_a_mail_arrives_as_it_was_meant(provider: Provider[Any], mails: MailServer) -> None:
    message = _full()
    outcome = await call(provider, message)
    assert isinstance(outcome, Accepted)
    assert outcome.response.provider_message_id == "Q00001"
    mail = parsed(mails)
    headers = {name: mail[name] for name in ("from", "to", "cc", "reply-to", "x-campaign")}
    assert headers == {
        "from": "Acme <news@acme.example>",
        "to": "Änn Müller <ann@example.com>",
        "cc": "Bob <bob@example.com>",
        "reply-to": "Desk <desk@acme.example>",
        "x-campaign": "spring",
    }
    assert mail["subject"] == message.subject
    assert mail["message-id"] == f"<{message.id}@acme.example>"
    assert mail["date"].datetime == message.created_at
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == message.text
    assert html is not None
    assert html.get_content().strip() == message.html
    files = {part.get_filename(): part.get_payload(decode=True) for part in mail.iter_attachments()}
    assert files == {file.filename: file.content for file in message.attachments}


async def test_bcc_is_in_the_envelope_alone(provider: Provider[Any], mails: MailServer) -> None:
    await call(provider, _full())
    everybody = ["ann@example.com", "bob@example.com", "carol@example.com"]
    assert mails.deliveries[0].recipients == everybody
    assert mails.deliveries[0].sender == "news@acme.example"
    assert b"carol" not in mails.deliveries[0].content


async def test_lines_of_a_mail_are_safe_for_every_server(
    provider: Provider[Any], mails: MailServer
) -> None:
    await call(provider, _full())
    lines = mails.deliveries[0].content.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert all(line.isascii() and b"\n" not in line and b"\r" not in line for line in lines)


async def test_an_image_is_inside_and_a_click_unsubscribes(
    provider: Provider[Any], mails: MailServer
) -> None:
    assert isinstance(await call(provider, shown_mail()), Accepted)
    mail = parsed(mails)
    assert {name: mail[name] for name in ONE_CLICK} == ONE_CLICK
    (image,) = (part for part in mail.walk() if part["Content-ID"] == "<logo>")
    assert image.get_payload(decode=True) == LOGO.content


async def test_an_address_of_another_script_is_carried(
    provider: Provider[Any], mails: MailServer
) -> None:
    assert isinstance(await call(provider, mail_to("用户@bücher.example")), Accepted)
    assert mails.deliveries[0].recipients == ["用户@xn--bcher-kva.example"]


async def test_a_mail_of_a_size_goes_on_another_thread(
    provider: Provider[Any], mails: MailServer
) -> None:
    big = _file("big.bin", "application/octet-stream", b"\0.\r\n" * 100_000)
    assert isinstance(
        await call(provider, mail_to("ann@example.com", attachments=(big,))), Accepted
    )
    (file,) = parsed(mails).iter_attachments()
    assert file.get_payload(decode=True) == big.content


@pytest.mark.parametrize(
    "more",
    [
        {"subject": "Hello\r\nBcc: everybody@example.com"},
        {"headers": {"X-Campaign": "spring\nBcc: everybody@example.com"}},
        {"headers": {"Bcc": "everybody@example.com"}},
        {"headers": {"Content-Type": "text/html"}},
        {"headers": {"X Campaign": "spring"}},
        {"cc": ("nobody",)},
        {"sender": "no sender"},
    ],
    ids=str,
)
async def test_what_cannot_be_a_mail_is_refused_before_any_server_sees_it(
    provider: Provider[Any], mails: MailServer, more: dict[str, Any]
) -> None:
    outcome = await call(provider, mail_to("ann@example.com", **more))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.INVALID_CONTENT
    assert mails.connections == 0


def _told(outcome: Outcome) -> str:
    match outcome:
        case Refused() | TryLater():
            return f"{type(outcome).__name__} {outcome.reason}"
        case _:
            return type(outcome).__name__


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("rcpt_550", "Refused invalid_recipient"),
        ("rcpt_551", "Refused invalid_recipient"),
        ("rcpt_553", "Refused invalid_recipient"),
        ("rcpt_550_5.1.2", "Refused invalid_recipient"),
        ("rcpt_524_5.2.4", "Refused invalid_recipient"),
        ("data_550_5.1.1", "Refused invalid_recipient"),
        ("rcpt_550_5.7.1", "Refused rejected"),
        ("rcpt_550_5.1.8", "Refused rejected"),
        ("rcpt_552_5.2.2", "Refused rejected"),
        ("data_550", "Refused rejected"),
        ("data_552_5.3.4", "Refused rejected"),
        ("data_554_5.6.0", "Refused rejected"),
        ("rcpt_450_5.1.1", "Refused invalid_recipient"),  # the enhanced code decides
        ("rcpt_550_4.2.1", "TryLater provider_error"),
        ("rcpt_450_4.2.1", "TryLater provider_error"),
        ("rcpt_451", "TryLater provider_error"),
        ("rcpt_450_4.7.1", "TryLater rate_limited"),
        ("data_452_4.5.3", "TryLater rate_limited"),
        ("data_421_4.3.2", "TryLater provider_error"),
        ("rcpt_421_4.7.0", "TryLater rate_limited"),
        ("rcpt_530_5.7.0", "AccountError"),
        ("drop_early", "TryLater provider_error"),
        ("drop", "Ambiguous"),
    ],
)
async def test_answers_are_read_as_they_are_meant(
    provider: Provider[Any], mails: MailServer, to: str, told: str
) -> None:
    assert _told(await call(provider, mail_to(f"{to}@example.com"))) == told
    assert mails.deliveries == []
    assert isinstance(await call(provider, mail_to("ann@example.com")), Accepted)
    assert len(mails.deliveries) == 1


async def test_a_refusal_carries_the_servers_own_words(provider: Provider[Any]) -> None:
    outcome = await call(provider, mail_to("rcpt_550_5.1.1@example.com"))
    assert isinstance(outcome, Refused)
    assert outcome.response.code == "5.1.1"
    assert outcome.response.raw == "550 5.1.1 As you asked"


async def test_some_of_cc_refused_is_accepted_and_says_how_many(
    provider: Provider[Any], mails: MailServer
) -> None:
    message = mail_to(
        "ann@example.com",
        cc=("rcpt_550_5.1.1@example.com", "bob@example.com"),
        bcc=("rcpt_450_4.2.1@example.com",),
    )
    outcome = await call(provider, message)
    assert isinstance(outcome, Accepted)
    assert (outcome.response.detail or "").startswith(
        "2 of cc and bcc refused (the first by 550 5.1.1"
    )
    assert mails.deliveries[0].recipients == ["ann@example.com", "bob@example.com"]


async def test_when_to_is_refused_nobody_gets_anything(
    provider: Provider[Any], mails: MailServer
) -> None:
    message = mail_to("rcpt_550_5.1.1@example.com", cc=("bob@example.com",))
    assert isinstance(await call(provider, message), Refused)
    assert mails.deliveries == []


async def test_a_connection_is_kept_for_the_next_mail(
    provider: Provider[Any], mails: MailServer
) -> None:
    for to in ("ann", "rcpt_550_5.1.1", "bob"):
        await call(provider, mail_to(f"{to}@example.com"))
    assert mails.connections == 1
    assert len(mails.deliveries) == 2


async def test_a_connection_is_changed_after_so_many_mails(mails: MailServer) -> None:
    async with adapter(mails.port, messages_per_connection=2) as provider:
        for _ in range(5):
            await call(provider, mail_to("ann@example.com"))
    assert mails.connections == 3


async def test_an_idle_connection_is_closed(mails: MailServer) -> None:
    async with adapter(mails.port, idle_seconds=0.1, host="127.0.0.1") as provider:
        await call(provider, mail_to("ann@example.com"))
        await until(lambda: connections_to(mails.port) == 0)
        assert isinstance(await call(provider, mail_to("ann@example.com")), Accepted)


async def test_no_more_connections_than_allowed(mails: MailServer) -> None:
    async with adapter(mails.port, connections=1) as provider:
        sent = (call(provider, mail_to(f"to{n}@example.com")) for n in range(5))
        outcomes = await asyncio.gather(*sent)
    assert [_told(outcome) for outcome in outcomes] == ["Accepted"] * 5
    assert mails.connections == 1


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    """Who vouches for the server, and the file that says so."""
    made = trustme.CA()
    file = tmp_path / "ca.pem"
    made.cert_pem.write_to_path(str(file))
    return made, str(file)


def _server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


LOGIN = {"username": USERNAME, "password_env": "SMTP_PASSWORD"}


async def test_it_logs_in_over_starttls(authority: tuple[trustme.CA, str]) -> None:
    context, file = _server_context(authority[0]), authority[1]
    async with (
        serving(starttls=context, login=True) as mails,
        adapter(mails.port, security="starttls", ca_file=file, **LOGIN) as provider,
    ):
        assert isinstance(await call(provider, mail_to("ann@example.com")), Accepted)
        assert mails.logins == [USERNAME.encode()]


async def test_it_speaks_tls_from_the_first_byte(authority: tuple[trustme.CA, str]) -> None:
    context, file = _server_context(authority[0]), authority[1]
    async with (
        serving(tls=context) as mails,
        adapter(mails.port, security="tls", ca_file=file) as provider,
    ):
        assert isinstance(await call(provider, mail_to("ann@example.com")), Accepted)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_of_a_stranger_is_not_trusted(
    authority: tuple[trustme.CA, str], security: str
) -> None:
    stranger = _server_context(trustme.CA())
    async with (
        serving(
            starttls=stranger if security == "starttls" else None,
            tls=stranger if security == "tls" else None,
        ) as mails,
        adapter(mails.port, security=security, ca_file=authority[1]) as provider,
    ):
        outcome = await call(provider, mail_to("ann@example.com"))
        assert isinstance(outcome, TryLater)
        assert mails.deliveries == []


async def test_a_server_without_starttls_gets_neither_login_nor_mail(mails: MailServer) -> None:
    async with adapter(mails.port, security="starttls", **LOGIN) as provider:
        assert isinstance(await call(provider, mail_to("ann@example.com")), TryLater)
    assert (mails.logins, mails.deliveries) == ([], [])


async def test_a_refused_login_is_not_blamed_on_the_message() -> None:
    async with serving(login=True) as mails:
        wrong = {**LOGIN, "username": "somebody"}
        async with adapter(mails.port, **wrong) as provider:
            outcome = await call(provider, mail_to("ann@example.com"))
            assert isinstance(outcome, AccountError)
            assert "not the message" in (outcome.response.detail or "")
            assert await provider.probe()


async def test_the_date_of_a_scheduled_mail_is_when_it_was_due(
    provider: Provider[Any], mails: MailServer
) -> None:
    message = mail_to("ann@example.com")
    due = message.created_at + timedelta(days=3)
    await call(provider, replace(message, send_at=due))
    assert parsed(mails)["date"].datetime == due
