"""Adapters over HTTP: a codec writes the request and reads the answer, and `HttpProvider` calls.

An adapter's module defines a `RequestCodec`, and its builder returns an `HttpProvider` with it. The
provider makes one call and turns a lost connection into its outcome. It repeats nothing. If a
message takes several requests (a push to many devices), the adapter has its own `send`, and uses
`HttpTransport` and `Classifier` directly.
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
    """One HTTP request. Its representation shows no recipient, body or secret."""

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
    """Make a POST of form fields; `values` is a list if a name occurs more than once."""
    content_type = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request(url=url, headers={**headers, **content_type}, body=urlencode(values).encode())


def json_request(url: str, value: object, headers: Mapping[str, str]) -> Request:
    """Make a POST of JSON."""
    content_type = {"Content-Type": "application/json"}
    return Request(url=url, headers={**headers, **content_type}, body=json.dumps(value).encode())


def basic_auth(user: str, password: Secret) -> dict[str, str]:
    """Return the header of HTTP Basic."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password.value}'.encode()).decode()}"}


def bearer(token: Secret) -> dict[str, str]:
    """Return the header of a bearer token."""
    return {"Authorization": f"Bearer {token.value}"}


def json_object(text: str | bytes) -> Mapping[str, Any]:
    """Return the JSON object in an answer; an empty one if the answer is anything else."""
    value = json_value(text)
    return value if isinstance(value, dict) else {}


def json_value(text: str | bytes) -> object:
    """Return a JSON value; None if the text is not JSON or is nested too deeply."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def text_or_none(value: object) -> str | None:
    """Return a field of an answer as text; None if it is absent or empty."""
    return None if value is None or value == "" else str(value)


class RequestCodec(Protocol, Generic[M_contra]):
    """Writes the requests of one provider and reads its answers. It holds the secrets."""

    async def request(self, message: M_contra, attempt: Attempt) -> Request | Outcome:
        """Return the request for a message.

        Returns:
            The request; or an outcome if no request is needed to know it, such as `Refused` for
            content that the provider does not accept.

        Raises:
            TransportError: something that is needed first, such as a token, could not be
                obtained. Nothing was sent.
        """

    def read(self, message: M_contra, answer: Answer) -> Outcome:
        """Return the outcome of an answer of any status."""

    def probe(self) -> Request | None:
        """Return a request that checks the credentials and sends nothing; None if there is none."""


class HttpProvider(Generic[M]):
    """A provider that is called over HTTP.

    Args:
        name: the provider's.
        codec: writes requests and reads answers.
        transport: makes the calls.
        probe_ok: whether an answer to the probe with a status other than 2xx proves the
            credentials, for example if a key is only allowed to send.
        probe_problem: the problem that an answer to the probe reports with a status of 2xx, for
            example a closed account; None if it reports none.
    """

    def __init__(
        self,
        name: str,
        codec: RequestCodec[M],
        transport: HttpTransport,
        *,
        probe_ok: Callable[[Answer], bool] = lambda _: False,
        probe_problem: Callable[[Answer], str | None] = lambda _: None,
    ) -> None:
        self._name = name
        self._codec = codec
        self._transport = transport
        self._probe_ok = probe_ok
        self._probe_problem = probe_problem

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        await self._transport.open()

    async def send(self, message: M, attempt: Attempt) -> Outcome:
        try:
            request = await self._codec.request(message, attempt)
        except NotSentError as error:
            return outcome_of(error)
        except TransportError as error:  # an earlier call failed: the message was not sent
            return outcome_of(NotSentError(str(error)))
        if not isinstance(request, Request):
            return request
        try:
            return self._codec.read(message, await self._call(request))
        except TransportError as error:
            return outcome_of(error)

    async def probe(self) -> str | None:
        request = self._codec.probe()
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
                return self._probe_problem(answer)
            case _ if self._probe_ok(answer):
                return None
            case 401 | 403:
                return f"the provider refuses the account ({answer.status})"
            case 429:
                return None  # it responds, and accepts the credentials
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
