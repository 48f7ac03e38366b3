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

from consumers.email.mime import InvalidContentError, Mail, compose, domain_of
from consumers.email.pool import PoolLimits, SessionPool
from consumers.email.session import ACCOUNT_CODES, RefusedError, Reply, Server
from consumers.sdk.http_transport import TransportError, outcome_of
from consumers.sdk.options import LOOPBACK, Options
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


def _build(setup: ProviderContext) -> SmtpProvider:
    options = setup.options
    sender = _sender(options, "from", options.text("from"))
    return_path = options.optional_text("return_path")
    limits = PoolLimits(
        connections=int(options.number("connections", 10, at_least=1)),
        mails=int(options.number("messages_per_connection", 100, at_least=1)),
        idle_seconds=options.number("idle_seconds", 30, at_least=0.1),
    )
    timeout = options.number("timeout_seconds", setup.timeout_seconds, at_least=0.1)
    server = _server(options)
    options.done()
    return SmtpProvider(
        setup.name,
        SessionPool(server, limits),
        sender=sender,
        return_path=_sender(options, "return_path", return_path) if return_path else None,
        timeout_seconds=timeout,
    )


def _sender(options: Options, name: str, address: str) -> str:
    try:
        domain_of(address)
    except (InvalidContentError, ValueError) as error:
        raise options.wrong(name, "must be an e-mail address") from error
    return address


def _server(options: Options) -> Server:
    host = options.text("host")
    security = options.choice("security", "starttls", among=("starttls", "tls", "none"))
    username = options.optional_text("username")
    if username is not None and security == "none" and host not in LOOPBACK:
        raise options.wrong("security", "a login needs starttls or tls")
    return Server(
        host=host,
        port=int(options.number("port", _PORTS[security], at_least=1)),
        security=security,
        username=username,
        password=options.secret("password_env") if username is not None else None,
        local_hostname=options.text("local_hostname", socket.gethostname()),
        connect_seconds=options.number("connect_seconds", 10, at_least=0.1),
        tls=_tls(options) if security != "none" else None,
    )


def _tls(options: Options) -> ssl.SSLContext:
    authority = options.optional_text("ca_file")
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise options.wrong("ca_file", "cannot be read as certificates") from error


SMTP = ProviderType(build=_build)
