"""One SMTP connection: the one seam where aiosmtplib's errors become ours.

The pool opens sessions, the adapter sends mails through them. A mail goes in two halves, because
between them lies what decides the meaning of a lost connection: during `offer` nothing has been
sent, during `deliver` all of it may have been.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import aiosmtplib
from aiosmtplib import SMTPResponse

from comms.platform.settings import Secret
from consumers.email.mime import Mail
from consumers.sdk.http_transport import AnswerLostError, NotSentError
from schemas.vocabulary import Reason

T = TypeVar("T")

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")
_LINE_END = re.compile(rb"\r\n|\r|\n")
ACCOUNT_CODES = frozenset({530, 534, 535, 538})  # log in first, otherwise, with TLS


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said to a command."""

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """Its enhanced status code (RFC 3463), e.g. `5.1.1`."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else None

    @property
    def good(self) -> bool:
        return 200 <= self.code < 400

    @property
    def permanent(self) -> bool:
        """Refused for good: by the enhanced code's class where there is one."""
        first = (self.enhanced or str(self.code))[0]
        return first == "5"

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class RefusedError(Exception):
    """The server answered, and the answer is no.

    Attributes:
        command: the command it answered: `CONNECT`, `LOGIN`, `MAIL`, `RCPT`, `DATA`.
    """

    def __init__(self, reply: Reply, command: str) -> None:
        super().__init__(f"{command} was answered {reply.code}")
        self.reply, self.command = reply, command


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the mails go. `tls` is None for `security` none."""

    host: str
    port: int
    security: str
    username: str | None
    password: Secret | None
    local_hostname: str
    connect_seconds: float
    tls: ssl.SSLContext | None


class Session:
    """A connection that was greeted, secured and logged in."""

    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        self._smtp = smtp
        self.mails = 0
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        return self._smtp.is_connected

    async def offer(self, mail: Mail, *, seconds: float) -> list[Reply]:
        """Name the sender and everybody who gets the mail; the refusals among cc and bcc.

        `to` decides: when the server does not take it, nobody gets anything.

        Raises:
            RefusedError: of the sender or of `to`; the session can be used again.
            NotSentError: the connection is gone.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._offer(mail)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _not_sent(error) from error

    async def deliver(self, mail: Mail, *, seconds: float) -> Reply:
        """Hand over the mail itself.

        Raises:
            RefusedError: the server answered no.
            NotSentError: the connection went before it asked for the content.
            AnswerLostError: it went, or fell silent, after that.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                go_on = await self._command(b"DATA")
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _not_sent(error) from error
        if go_on.code != 354:
            raise RefusedError(go_on, "DATA")
        try:
            async with asyncio.timeout_at(deadline):
                return await self._write(mail.content)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise AnswerLostError(_kind(error, "after the mail was written")) from error

    async def reset(self, *, seconds: float) -> bool:
        """Forget the mail under way, and see whether the server is still there."""
        try:
            async with asyncio.timeout(seconds):
                return (await self._command(b"RSET")).good
        except (aiosmtplib.SMTPException, OSError):
            self._smtp.close()
            return False

    def drop(self) -> None:
        """Close at once: what would come next from the server is not the answer to a command."""
        self._smtp.close()

    async def quit(self, *, seconds: float) -> None:
        """Say good-bye and close."""
        try:
            async with asyncio.timeout(seconds):
                if self._smtp.is_connected:
                    await self._smtp.quit()
        except (aiosmtplib.SMTPException, OSError):
            pass  # it is gone, which is what was wanted
        finally:
            self._smtp.close()

    async def _offer(self, mail: Mail) -> list[Reply]:
        encoding = "utf-8" if mail.needs_utf8 else "ascii"
        options = [f"SIZE={len(mail.content)}"] if self._smtp.supports_extension("size") else []
        if mail.needs_utf8:
            if not self._smtp.supports_extension("smtputf8"):
                raise RefusedError(Reply(553, "5.6.7 SMTPUTF8 is not offered here"), "RCPT")
            options.append("SMTPUTF8")
        line = " ".join((f"MAIL FROM:<{mail.sender}>", *options))
        await self._accepted("MAIL", line.encode(encoding))
        await self._accepted("RCPT", f"RCPT TO:<{mail.to}>".encode(encoding))
        replies = [
            await self._command(f"RCPT TO:<{other}>".encode(encoding)) for other in mail.others
        ]
        return [reply for reply in replies if not reply.good]

    async def _accepted(self, command: str, line: bytes) -> None:
        reply = await self._command(line)
        if not reply.good:
            raise RefusedError(reply, command)

    async def _command(self, line: bytes) -> Reply:
        return _reply(await self._smtp.execute_command(line, timeout=None))

    async def _write(self, content: bytes) -> Reply:
        """The content, its lines ended and its dots doubled, and the dot that ends it."""
        protocol = self._smtp.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("gone")
        lines = _LINE_END.sub(b"\r\n", content).removesuffix(b"\r\n").replace(b"\r\n.", b"\r\n..")
        protocol.write((b"." if lines.startswith(b".") else b"") + lines + b"\r\n.\r\n")
        reply = _reply(await protocol.read_response())
        if reply.code == 421:
            self._smtp.close()
        if not reply.good:
            raise RefusedError(reply, "DATA")
        return reply


async def connect(server: Server, *, seconds: float) -> Session:
    """Open a session: greeting, STARTTLS or TLS, login.

    Raises:
        NotSentError: there is no connection.
        RefusedError: the server does not want us (command `CONNECT` or `LOGIN`).
    """
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        local_hostname=server.local_hostname,
        # Time is kept here alone: a wait with a limit of its own may swallow a cancellation that
        # comes together with an answer (Python 3.11).
        timeout=None,
        use_tls=server.security == "tls",
        start_tls=server.security == "starttls",
        tls_context=server.tls,
    )
    try:
        async with asyncio.timeout(min(seconds, server.connect_seconds)):
            await _step("CONNECT", smtp.connect())
            await _step("CONNECT", smtp.ehlo())
            if server.username is not None and server.password is not None:
                await _step("LOGIN", smtp.login(server.username, server.password.value))
    except BaseException as error:
        smtp.close()
        if isinstance(error, aiosmtplib.SMTPException | OSError):
            raise _not_sent(error) from error
        raise
    return Session(smtp)


async def _step(command: str, step: Awaitable[T]) -> T:
    try:
        return await step
    except aiosmtplib.SMTPResponseException as error:
        raise RefusedError(Reply(error.code, error.message), command) from error


def _reply(response: SMTPResponse) -> Reply:
    return Reply(response.code, response.message.encode("utf-8", "replace").decode("utf-8"))


def _not_sent(error: Exception) -> NotSentError:
    if isinstance(error, ssl.SSLError):
        return NotSentError(f"no trusted connection: {error.reason or 'TLS failed'}")
    reason = Reason.TIMEOUT if isinstance(error, TimeoutError) else Reason.PROVIDER_ERROR
    return NotSentError(_kind(error, "before the mail was written"), reason=reason)


def _kind(error: Exception, when: str) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in time, {when}"
    if isinstance(error, aiosmtplib.SMTPConnectError):
        return "no connection"
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return f"the server does not offer what is needed ({error.message})"
    return f"the connection was lost {when}"
