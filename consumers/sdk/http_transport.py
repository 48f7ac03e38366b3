"""The HTTP connections to a provider, and the distinction that decides what a lost call means.

Adapters send through `HttpTransport`, or raise the same errors themselves. The type of the error
says whether the request had been written when the call failed, so that no adapter has to guess.
Nothing is repeated here: only the ledger decides that (docs/adr/0011-transport.md).

    TransportError
    ├── NotSentError         nothing was carried out: no connection; the call may be repeated
    │   └── OffLimitsError   the address must not be called
    └── AnswerLostError      it was written and no answer arrived: it may have been carried out
"""

import errno
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import aiohttp

from consumers.sdk.outcomes import Ambiguous, Refused, TryLater
from schemas.events import ProviderResponse
from schemas.vocabulary import Reason

CONNECT_SECONDS = 3.0
# Shorter than servers keep a silent connection, so that one is rarely reused as it is closed.
KEEP_SECONDS = 30.0
ANSWER_LIMIT = 64 * 1024  # bytes of an answer that are read


class TransportError(Exception):
    """A call ended without an answer."""


class NotSentError(TransportError):
    """Nothing was carried out.

    Attributes:
        reason: `timeout` if there was no connection in time, else `provider_error`.
    """

    def __init__(self, problem: str, *, reason: Reason = Reason.PROVIDER_ERROR) -> None:
        super().__init__(problem)
        self.reason = reason


class OffLimitsError(NotSentError):
    """The address must not be called by this process."""


class AnswerLostError(TransportError):
    """The request was written, and its answer was lost."""


def outcome_of(error: TransportError) -> Refused | TryLater | Ambiguous:
    """Return the outcome of a call that ended in `error`."""
    response = ProviderResponse(detail=str(error))
    if isinstance(error, OffLimitsError):
        return Refused(reason=Reason.INVALID_RECIPIENT, response=response)
    if isinstance(error, NotSentError):
        return TryLater(reason=error.reason, response=response)
    return Ambiguous(response=response)


@dataclass(frozen=True, slots=True)
class Answer:
    """The parts of an HTTP answer that adapters read."""

    status: int
    headers: Mapping[str, str]
    text: str

    def retry_after(self) -> float | None:
        """The number of seconds that the server asks us to wait, if it says so in seconds."""
        value = self.headers.get("Retry-After", "").strip()
        return float(value) if value.isdecimal() else None


@cache
def verifying(protocol: str) -> ssl.SSLContext:
    """Return a TLS context for `protocol` that verifies the server's certificate and name.

    It is made once: reading the machine's authorities takes longer than a call should wait.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols([protocol])
    return context


class HttpTransport:
    """The pooled HTTP connections of one provider, used from one event loop.

    Certificates are always verified, against the authorities of the machine (`SSL_CERT_FILE` names
    others). The proxies of the environment and `.netrc` are not used.

    Args:
        timeout_seconds: the time limit of a call, connecting included.
        connections: the maximum number of open connections.
        may_reach: whether an IP address may be connected to, if messages contain the addresses that
            are called. It is called for each connection, whatever a name resolved to before.
        answer_limit: the number of bytes of an answer that are read.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        connections: int,
        may_reach: Callable[[str], bool] | None = None,
        answer_limit: int = ANSWER_LIMIT,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(
            # If a call runs out of time before it is written, the error must say so. Therefore the
            # limit of the connection is shorter than that of the call.
            total=timeout_seconds,
            connect=min(CONNECT_SECONDS, timeout_seconds / 2),
        )
        self._connections = connections
        self._may_reach = may_reach
        self._answer_limit = answer_limit
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                keepalive_timeout=KEEP_SECONDS,
                ttl_dns_cache=60,
                ssl=verifying("http/1.1"),
                socket_factory=None if self._may_reach is None else self._guarded_socket,
            ),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Release the pool. It can be opened again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self, method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make one request and return its answer, of any status. Redirects are not followed.

        Raises:
            NotSentError: the request was not written.
            AnswerLostError: it was written, and no answer arrived.
        """
        if self._session is None:
            raise NotSentError("the provider's connections are not open")
        once = _Once()
        try:
            async with self._session.request(
                method,
                url,
                data=body or None,
                headers=headers,
                allow_redirects=False,
                middlewares=(once,),
            ) as response:
                text = (await self._read(response)).decode("utf-8", "replace")
                return Answer(response.status, response.headers, text)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise once.translated(error) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the body up to the limit. If it is longer, the connection is closed."""
        read = await response.content.read(self._answer_limit)
        while not response.content.at_eof():
            if len(read) >= self._answer_limit:
                response.close()
                break
            read += await response.content.read(self._answer_limit - len(read))
        return read

    def _guarded_socket(self, where: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = where
        if self._may_reach is not None and not self._may_reach(str(address[0])):
            raise _NotForUsError(errno.EACCES, "not a public address")
        return socket.socket(family, kind, protocol)


class _NotForUsError(OSError):
    """Passes through aiohttp, which handles only OSError when it connects."""


class _Once:
    """One call through aiohttp. It is made once, and knows whether it was written."""

    __slots__ = ("_request",)

    def __init__(self) -> None:
        self._request: aiohttp.ClientRequest | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self._request = request
        try:
            return await handler(request)
        except (aiohttp.ClientError, OSError) as error:
            # Translated here, because aiohttp repeats a GET when its connection was closed.
            raise self.translated(error) from error

    def translated(self, error: Exception) -> TransportError:
        """Translate an error of aiohttp. Its text may quote the URL, so only its type is kept."""
        if not self._written():
            return _unsent(error)
        if isinstance(error, TimeoutError):
            return AnswerLostError("no answer in time")
        return AnswerLostError(f"the connection was lost ({type(error).__name__})")

    def _written(self) -> bool:
        """Whether anything was written. aiohttp creates the response when it begins to write."""
        if self._request is None:
            return False
        return cast("aiohttp.ClientResponse | None", self._request.response) is not None


def _unsent(error: Exception) -> NotSentError:
    match error:
        case TimeoutError():
            return NotSentError("no connection in time", reason=Reason.TIMEOUT)
        case aiohttp.ClientConnectorError():
            return unreached(error.os_error)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return NotSentError("the provider's address is not a URL")
        case ValueError():
            return NotSentError("the request could not be written")
        case _:
            return NotSentError(f"no connection ({type(error).__name__})")


def unreached(error: OSError) -> NotSentError:
    """Return the error for a connection that failed."""
    match error:
        case _NotForUsError():
            return OffLimitsError("the address is not one that may be reached")
        case ssl.SSLCertVerificationError():
            # After the comma is the name for which the certificate is not valid.
            problem = error.verify_message.partition(",")[0]
            return NotSentError(f"the server's certificate is not good: {problem}")
        case _:
            return NotSentError(f"no connection: {error.strerror or 'unreachable'}")
