"""A real mail server (aiosmtpd) on loopback whose recipients name the answer they want.

`rcpt_550_5.1.1@` is refused with that code when it is named, `data_451@` when the mail is handed
over; `drop_early@` loses the connection when the mail is announced, `drop@` and `silent@` after it
was written, each without an answer.
"""

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USERNAME, PASSWORD = "mailer", "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A mail that was taken: the envelope and the bytes."""

    sender: str
    recipients: list[str]
    content: bytes


class MailServer:
    """Takes mails, and keeps a record of what it was asked."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.connections = 0
        self.logins: list[bytes] = []
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd calls it so
        self,
        server: "Protocol",
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: list[str],
    ) -> str:
        answer = _answer_in(address, "rcpt")
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, server: "Protocol", session: Session, envelope: Envelope
    ) -> str:
        first = envelope.rcpt_tos[0]
        if first.startswith("silent@"):
            await asyncio.Event().wait()
        if first.startswith("drop@"):
            server.hang_up()
            return ""
        answer = _answer_in(first, "data")
        if answer is None:
            self._keep(envelope)
        return answer or f"250 2.0.0 OK: queued as Q{len(self.deliveries):05}"

    def log_in(self, login: LoginPassword) -> AuthResult:
        self.logins.append(login.login)
        good = (login.login, login.password) == (USERNAME.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)

    def _keep(self, envelope: Envelope) -> None:
        content = envelope.original_content or b""
        self.deliveries.append(Delivery(envelope.mail_from or "", list(envelope.rcpt_tos), content))


def _answer_in(address: str, command: str) -> str | None:
    """`rcpt_550_5.1.1@…` as `550 5.1.1 As you asked`, if it is for this command."""
    asked, _, rest = address.partition("@")[0].partition("_")
    return f"{rest.replace('_', ' ')} As you asked" if asked == command else None


class Protocol(SMTP):
    """A connection that can end in the middle."""

    def hang_up(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        named = self.envelope.rcpt_tos if self.envelope else []
        if any(to.startswith("drop_early@") for to in named):
            self.hang_up()
            return
        await super().smtp_DATA(arg)


@asynccontextmanager
async def serving(
    *, starttls: SSLContext | None = None, tls: SSLContext | None = None, login: bool = False
) -> AsyncIterator[MailServer]:
    """A server on a free port.

    Args:
        starttls: offered, and demanded before a login; tls: spoken from the first byte.
        login: whether mails are taken only after one.
    """
    mails = MailServer()

    def connected() -> Protocol:
        mails.connections += 1
        with warnings.catch_warnings():
            # It warns of a login without TLS, which is what some of the tests are about.
            warnings.simplefilter("ignore")
            return Protocol(
                mails,
                hostname="mail.example.com",
                tls_context=starttls,
                require_starttls=starttls is not None,
                auth_required=login,
                auth_require_tls=False,
                authenticator=lambda _s, _session, _envelope, _mechanism, data: mails.log_in(data),
                enable_SMTPUTF8=True,
                loop=asyncio.get_running_loop(),
            )

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0, ssl=tls)
    mails.port = server.sockets[0].getsockname()[1]
    try:
        yield mails
    finally:
        server.close()
