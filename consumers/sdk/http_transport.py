"""The wire to a provider, and the one distinction that decides what a lost call means.

Adapters send through here or raise the same two errors themselves. Whether the request had left
when a call went wrong shows in the error's type, so that no adapter has to guess; nothing is tried
again here, which only the ledger may decide (docs/adr/0011-transport.md):

    TransportError
    ├── NotSentError         nothing was carried out: no connection; the same call may be made again
    │   └── OffLimitsError   the address is not one that may be reached, nor will it be
    └── AnswerLostError      it was written and no answer came: it may have been carried out
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
    """A call did not end in an answer."""


class NotSentError(TransportError):
    """Nothing was carried out.

    Attributes:
        reason: `timeout` when nobody answered in time, else `provider_error`.
    """

    def __init__(self, problem: str, *, reason: Reason = Reason.PROVIDER_ERROR) -> None:
        super().__init__(problem)
        self.reason = reason


class OffLimitsError(NotSentError):
    """What was to be reached is not to be reached by us."""


class AnswerLostError(TransportError):
    """The request was written, and its answer is not known."""


def outcome_of(error: TransportError) -> Refused | TryLater | Ambiguous:
    """What a call that ended in `error` came to."""
    response = ProviderResponse(detail=str(error))
    if isinstance(error, OffLimitsError):
        return Refused(reason=Reason.INVALID_RECIPIENT, response=response)
    if isinstance(error, NotSentError):
        return TryLater(reason=error.reason, response=response)
    return Ambiguous(response=response)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, as far as adapters read one."""

    status: int
    headers: Mapping[str, str]
    text: str

    def retry_after(self) -> float | None:
        """Seconds the server asks us to wait, if it says so in seconds."""
        value = self.headers.get("Retry-After", "").strip()
        return float(value) if value.isdecimal() else None


@cache
def verifying(protocol: str) -> ssl.SSLContext:
    """TLS for `protocol`, with a server whose certificate is good for its name. Made once, as
    reading the machine's authorities takes longer than a call should wait."""
    context = ssl.create_default_context()
    context.set_alpn_protocols([protocol])
    return context


class HttpTransport:
    """One provider's pooled HTTP connections, used from one event loop.

    Certificates are verified, always, against the authorities of the machine (`SSL_CERT_FILE`
    names others). The environment's proxies and `.netrc` are not looked at.

    Args:
        timeout_seconds: of a call, connecting included.
        connections: open at once, at most.
        may_reach: whether an IP address may be connected to, for addresses that messages name. It
            is asked about each one as the connection is made, whatever a name resolved to before.
        answer_limit: bytes of an answer that are read.
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
            # A call that runs out of time before it is written must be seen as such, so the
            # connection's limit ends before the call's.
            total=timeout_seconds,
            connect=min(CONNECT_SECONDS, timeout_seconds / 2),
        )
        self._connections, self._may_reach = connections, may_reach
        self._answer_limit = answer_limit
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool."""
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
        """Release the pool; open it again to use it again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self, method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its answer, whatever its status; nothing is repeated or redirected.

        Raises:
            NotSentError, AnswerLostError: there was none.
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
        """The answer's body, cut at the limit; a longer one costs its connection."""
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
    """Raised through aiohttp, which knows of no other reason not to connect."""


class _Once:
    """One call on its way through aiohttp: it is made once, and may have been written or not."""

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
            # As one of ours, since aiohttp repeats what is not a POST when its connection was gone.
            raise self.translated(error) from error

    def translated(self, error: Exception) -> TransportError:
        """Ours for one of aiohttp's. Its text may quote the URL, so only the kind is kept."""
        if not self._written():
            return _unsent(error)
        if isinstance(error, TimeoutError):
            return AnswerLostError("no answer in time")
        return AnswerLostError(f"the connection was lost ({type(error).__name__})")

    def _written(self) -> bool:
        """Whether anything may have been: aiohttp makes the response as it begins to write."""
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
    """Why there was no connection."""
    match error:
        case _NotForUsError():
            return OffLimitsError("the address is not one that may be reached")
        case ssl.SSLCertVerificationError():
            # What follows the comma is the name that the certificate is not for.
            what = error.verify_message.partition(",")[0]
            return NotSentError(f"the server's certificate is not good: {what}")
        case _:
            return NotSentError(f"no connection: {error.strerror or 'unreachable'}")
