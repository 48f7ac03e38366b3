"""SMTP: e-mail handed to any mail server, and its answers read as outcomes.

The runner calls it like every provider. A server's enhanced code decides where it gives one, else
the first digit of its answer. `to` decides for the whole mail: when it is refused nobody gets
anything, and when only some of cc and bcc are, the mail is accepted and the refusals are counted in
the detail. An account fault (login refused, or demanded) is never blamed on the message.
"""

import asyncio
import re
import socket
import ssl
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from consumers.email.mime import InvalidContentError, Mail, compose
from consumers.email.parts import MailAddress
from consumers.email.pool import PoolLimits, SessionPool
from consumers.email.session import ACCOUNT_CODES, RefusedError, Reply, Server
from consumers.sdk.http_transport import TransportError, outcome_of
from consumers.sdk.options import (
    CertificateFile,
    Port,
    ProviderOptions,
    Seconds,
    SecretVariable,
    Text,
    WrongValueError,
    is_loopback,
)
from consumers.sdk.outcomes import Accepted, AccountError, Outcome, Refused, TryLater
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage
from schemas.vocabulary import Reason

_HEAVY_BYTES = 200_000
_PORTS = {"starttls": 587, "tls": 465, "none": 25}

# Enhanced codes that say nobody can be reached there, beside 5.1.x; 5.1.7 and 5.1.8 blame the
# sender, and 5.2.4 is what OpenSMTPD says of a mailbox it does not have.
_NOBODY = frozenset({"5.2.1", "5.2.4"})
_SENDERS_FAULT = frozenset({"5.1.7", "5.1.8"})
_NOBODY_CODES = frozenset({550, 551, 553})

# "queued as 4F2A…" (Postfix), "id=1r…" (Exim), "2.0.0 1a2b… Message accepted" (OpenSMTPD, Sendmail)
_QUEUE_ID = (
    re.compile(r"queued as ([\w.-]+)", re.IGNORECASE),
    re.compile(r"\bid=([\w.-]+)"),
    re.compile(r"^2\.\d+\.\d+ (?:ok:? )?(?=\S*\d)([\w.-]{6,})\b", re.IGNORECASE),
)


class SmtpProvider:
    """A mail server.

    Args:
        sender: the From of messages that name none.
        return_path: where bounces go; the sender when None.
        timeout_seconds: of one mail, connecting included.
    """

    def __init__(
        self,
        name: str,
        pool: SessionPool,
        *,
        sender: str,
        return_path: str | None,
        timeout_seconds: float,
    ) -> None:
        self._name, self._pool = name, pool
        self._sender, self._return_path = sender, return_path
        self._timeout = timeout_seconds

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        """Connections are made as mails come."""

    async def send(self, message: EmailMessage, attempt: Attempt) -> Outcome:
        del attempt  # SMTP has no idempotency key; the Message-ID is the same in every attempt
        try:
            mail = await self._compose(message)
        except InvalidContentError as error:
            response = ProviderResponse(detail=str(error))
            return Refused(reason=Reason.INVALID_CONTENT, response=response)
        try:
            return await self._hand_over(mail)
        except RefusedError as error:
            return _refusal(error)
        except TransportError as error:
            return outcome_of(error)

    async def probe(self) -> str | None:
        try:
            async with self._pool.lease(seconds=self._timeout) as session:
                alive = await session.reset(seconds=self._timeout)
        except RefusedError as error:
            return f"{error}: {error.reply.text}"
        except TransportError as error:
            return str(error)
        return None if alive else "the server does not answer"

    async def close(self) -> None:
        await self._pool.close()

    def __repr__(self) -> str:
        return f"SmtpProvider({self._name})"

    async def _compose(self, message: EmailMessage) -> Mail:
        """The mail; a heavy one is written on another thread, for the sake of the other calls."""
        weight = sum(len(attachment.content) for attachment in message.attachments)
        if weight < _HEAVY_BYTES:
            return compose(message, default_from=self._sender, return_path=self._return_path)
        return await asyncio.to_thread(
            compose, message, default_from=self._sender, return_path=self._return_path
        )

    async def _hand_over(self, mail: Mail) -> Accepted:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        async with self._pool.lease(seconds=self._timeout) as session:
            try:
                refused = await session.offer(mail, seconds=deadline - loop.time())
                reply = await session.deliver(mail, seconds=deadline - loop.time())
            except RefusedError:
                await session.reset(seconds=max(0.1, deadline - loop.time()))
                raise
        return Accepted(response=_provider_response(reply, refused=refused))


def _refusal(error: RefusedError) -> Outcome:
    reply, response = error.reply, _provider_response(error.reply)
    if reply.code in ACCOUNT_CODES or (error.command == "LOGIN" and reply.permanent):
        return AccountError(response=_of_account(error))
    if error.command in ("CONNECT", "LOGIN"):
        return TryLater(reason=Reason.PROVIDER_ERROR, response=_of_account(error))
    if not reply.permanent:
        return TryLater(reason=_reason_to_wait(reply), response=response)
    nobody = error.command != "MAIL" and _says_nobody(error)
    return Refused(
        reason=Reason.INVALID_RECIPIENT if nobody else Reason.REJECTED, response=response
    )


def _says_nobody(error: RefusedError) -> bool:
    enhanced = error.reply.enhanced
    if enhanced is None:
        return error.command == "RCPT" and error.reply.code in _NOBODY_CODES
    if enhanced in _SENDERS_FAULT:
        return False
    return enhanced.startswith("5.1.") or enhanced in _NOBODY


def _reason_to_wait(reply: Reply) -> Reason:
    """Greylisting and limits of rate or recipients ask for patience; the rest is trouble."""
    enhanced = reply.enhanced or ""
    limited = enhanced.startswith("4.7.") or enhanced == "4.5.3"
    return Reason.RATE_LIMITED if limited else Reason.PROVIDER_ERROR


def _of_account(error: RefusedError) -> ProviderResponse:
    reply = error.reply
    return ProviderResponse(
        code=reply.enhanced or str(reply.code),
        detail=f"the server refuses the account or the connection, not the message: {error}",
        raw=str(reply),
    )


def _provider_response(reply: Reply, *, refused: list[Reply] | None = None) -> ProviderResponse:
    detail = reply.text
    if refused:
        first = refused[0]
        detail = f"{len(refused)} of cc and bcc refused (the first by {first}); {reply.text}"
    return ProviderResponse(
        provider_message_id=_queue_id(reply) if reply.good else None,
        code=reply.enhanced or str(reply.code),
        detail=detail,
        raw=str(reply),
    )


def _queue_id(reply: Reply) -> str | None:
    for pattern in _QUEUE_ID:
        found = pattern.search(reply.text)
        if found:
            return found[1]
    return None


class SmtpOptions(ProviderOptions):
    """The mail server, and how its connections are used.

    Attributes:
        host: of the server.
        port: the customary one of `security` unless the table says otherwise.
        security: how the connection is protected.
        ca_file: authorities in place of the machine's.
        username: the login; None for none.
        password_env: required with a login.
        sender: the sender of messages that name none.
        return_path: where bounces go, in place of the sender.
        local_hostname: the name in EHLO; the machine's unless the table says otherwise.
        timeout_seconds: of one message; the channel's `call_timeout_seconds` unless the table says
            otherwise.
        connect_seconds: the time limit of a new connection.
        connections: the maximum number of open connections.
        messages_per_connection: a connection is replaced after this number of messages.
        idle_seconds: an unused connection is closed after this time.
    """

    host: Text
    port: Port | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: CertificateFile | None = None
    username: Text | None = None
    password_env: SecretVariable | None = None
    sender: MailAddress = Field(alias="from")
    return_path: MailAddress | None = None
    local_hostname: Text = Field(default_factory=socket.gethostname)
    timeout_seconds: Seconds | None = None
    connect_seconds: Seconds = 10.0
    connections: Annotated[int, Field(ge=1)] = 10
    messages_per_connection: Annotated[int, Field(ge=1)] = 100
    idle_seconds: Seconds = 30.0

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if self.username is None:
            if self.password_env is not None:
                raise WrongValueError("needs username", key="password_env")
            return self
        if self.password_env is None:
            raise WrongValueError("missing", key="password_env")
        if self.security == "none" and not is_loopback(self.host):
            raise WrongValueError("a login needs starttls or tls", key="security")
        return self


def _build(context: ProviderContext[SmtpOptions]) -> SmtpProvider:
    options = context.options
    limits = PoolLimits(
        connections=options.connections,
        mails=options.messages_per_connection,
        idle_seconds=options.idle_seconds,
    )
    return SmtpProvider(
        context.name,
        SessionPool(_server(options), limits),
        sender=options.sender,
        return_path=options.return_path,
        timeout_seconds=options.timeout_seconds or context.timeout_seconds,
    )


def _server(options: SmtpOptions) -> Server:
    is_plain = options.security == "none"
    return Server(
        host=options.host,
        port=options.port or _PORTS[options.security],
        security=options.security,
        username=options.username,
        password=options.password_env.secret() if options.password_env else None,
        local_hostname=options.local_hostname,
        connect_seconds=options.connect_seconds,
        tls=None if is_plain else ssl.create_default_context(cafile=options.ca_file),
    )


SMTP = ProviderType(options=SmtpOptions, build=_build)
