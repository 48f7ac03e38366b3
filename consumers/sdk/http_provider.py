"""An adapter over HTTP as data: how to write a request, and how to read its answer.

An adapter's module defines a `RequestCodec`, and its builder returns an `HttpProvider` of it. The
provider calls, once, and turns a lost connection into what it means; it repeats nothing. One whose
message takes several requests (a push to many devices) writes its own `send` over `HttpTransport`
and the same `Classifier`.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlencode

from comms.platform.settings import Secret
from consumers.sdk.http_transport import (
    ANSWER_LIMIT,
    Answer,
    HttpTransport,
    NotSentError,
    TransportError,
    outcome_of,
)
from consumers.sdk.options import CallOptions
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext
from schemas.messages import Message

M_contra = TypeVar("M_contra", bound=Message, contravariant=True)
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request:
    """One HTTP request; its repr shows nothing of a recipient, a body or a secret."""

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Request({self.method})"


def form_request(
    url: str,
    values: Mapping[str, str] | list[tuple[str, str]],
    headers: Mapping[str, str],
) -> Request:
    """A POST of form fields; a list where a name occurs more than once."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request(url=url, headers={**headers, **kind}, body=urlencode(values).encode())


def json_request(url: str, value: object, headers: Mapping[str, str]) -> Request:
    """A POST of JSON."""
    kind = {"Content-Type": "application/json"}
    return Request(url=url, headers={**headers, **kind}, body=json.dumps(value).encode())


def basic_auth(user: str, password: Secret) -> dict[str, str]:
    """The header of HTTP Basic."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password.value}'.encode()).decode()}"}


def bearer(token: Secret) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {token.value}"}


def json_object(text: str | bytes) -> Mapping[str, Any]:
    """A JSON object out of an answer; an empty one where it is anything else."""
    value = json_value(text)
    return value if isinstance(value, dict) else {}


def json_value(text: str | bytes) -> object:
    """What JSON from elsewhere says; None where it is none, or is nested beyond measure."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def text_or_none(value: object) -> str | None:
    """A field of an answer as text; None where it is absent or empty."""
    return None if value is None or value == "" else str(value)


class RequestCodec(Protocol, Generic[M_contra]):
    """One provider's way of writing requests and answers; it keeps the secrets."""

    async def request(self, message: M_contra, attempt: Attempt) -> Request | Outcome:
        """The request for a message; an outcome where it is clear without one, as `Refused` for
        content that the provider does not take.

        Raises:
            TransportError: what it needs first (a token) could not be had. Nothing was sent.
        """

    def read(self, message: M_contra, answer: Answer) -> Outcome:
        """What an answer, of any status, means."""

    def probe(self) -> Request | None:
        """A request that proves the credentials and sends nothing; None where there is none."""


class HttpProvider(Generic[M]):
    """A provider that is called over HTTP.

    Args:
        proves: whether an answer to the probe, of another status than 2xx, proves the credentials
            all the same, as where a key may do nothing but send.
        doubts: what an answer of 2xx says against the account even so; None where it says nothing.
    """

    def __init__(
        self,
        name: str,
        dialect: RequestCodec[M],
        transport: HttpTransport,
        *,
        probe_ok: Callable[[Answer], bool] = lambda _: False,
        probe_problem: Callable[[Answer], str | None] = lambda _: None,
    ) -> None:
        self._name, self._dialect, self._transport = name, dialect, transport
        self._proves, self._doubts = probe_ok, probe_problem

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        await self._transport.open()

    async def send(self, message: M, attempt: Attempt) -> Outcome:
        try:
            request = await self._dialect.request(message, attempt)
        except NotSentError as error:
            return outcome_of(error)
        except TransportError as error:  # the answer to something else was lost: nothing was sent
            return outcome_of(NotSentError(str(error)))
        if not isinstance(request, Request):
            return request
        try:
            return self._dialect.read(message, await self._call(request))
        except TransportError as error:
            return outcome_of(error)

    async def probe(self) -> str | None:
        request = self._dialect.probe()
        if request is None:
            return None
        try:
            answer = await self._call(request)
        except TransportError as error:
            return str(error)
        return self._problem_of(answer)

    def _problem_of(self, answer: Answer) -> str | None:
        match answer.status:
            case status if 200 <= status < 300:
                return self._doubts(answer)
            case _ if self._proves(answer):
                return None
            case 401 | 403:
                return f"the provider refuses the account ({answer.status})"
            case 429:
                return None  # it answers, and knows us
            case status:
                return f"the provider answers {status}"

    async def close(self) -> None:
        await self._transport.close()

    def __repr__(self) -> str:
        return f"HttpProvider({self._name})"

    async def _call(self, request: Request) -> Answer:
        return await self._transport.call(
            request.method, request.url, body=request.body, headers=request.headers
        )


def transport_of(
    context: ProviderContext[CallOptions],
    *,
    may_reach: Callable[[str], bool] | None = None,
    answer_limit: int = ANSWER_LIMIT,
) -> HttpTransport:
    """Make the connection pool of a provider, by its options and the limits of its channel.

    Args:
        context: of the provider.
        may_reach: as in `HttpTransport`, if messages contain the addresses that are called.
        answer_limit: the number of bytes of an answer that are read, if it is not the usual one.
    """
    return HttpTransport(
        timeout_seconds=call_seconds(context),
        connections=context.connections,
        may_reach=may_reach,
        answer_limit=answer_limit,
    )


def call_seconds(context: ProviderContext[CallOptions]) -> float:
    """Return the time limit of a call: the option `timeout_seconds`, or else the channel's."""
    return context.options.timeout_seconds or context.timeout_seconds
