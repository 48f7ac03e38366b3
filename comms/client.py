"""A small client of the HTTP API, for the command line and the sample traffic.

Its calls are synchronous. Inside, aiohttp keeps pooled connections on an event loop that belongs to
the client. The errors of aiohttp and the problem documents of the API become our own errors:

    ClientError
    ├── ApiUnreachableError   no answer; the request may have been processed or not
    └── ApiRefusedError       the API answered with an error
"""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from comms.platform.settings import Secret, Settings, SettingsError

KEY_FILE = "api-key"


class ClientError(Exception):
    """The request did not succeed; the text is one line for a person."""


class ApiUnreachableError(ClientError):
    """The API did not answer. A request with an idempotency key can be repeated safely."""


class ApiRefusedError(ClientError):
    """The API answered with an error.

    Attributes:
        status: the HTTP status code.
        retry_after: the seconds to wait before a repetition, if the API named them.
    """

    def __init__(self, status: int, sentence: str, *, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """A 2xx answer; 200 instead of 202 means that the message had been accepted before."""

    status: int
    body: Any


class ApiClient:
    """A client of one API with one key; a context manager.

    Args:
        url: the address of the API, without a path.
        key: the API key.
        seconds: the time limit of one call.
    """

    def __init__(self, url: str, key: Secret, *, seconds: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=seconds, connect=min(5.0, seconds))
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._runner.run(self._session.close())
        self._runner.close()

    def get(self, path: str, query: Mapping[str, str | None] | None = None) -> Any:
        """Get a JSON document; entries of `query` that are None are left out.

        Raises:
            ApiUnreachableError: the API did not answer.
            ApiRefusedError: the API answered with an error.
        """
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        return self._call("GET", path, query=parameters).body

    def post(
        self, path: str, document: object, headers: Mapping[str, str] | None = None
    ) -> ApiAnswer:
        """Post a JSON document.

        Raises:
            ApiUnreachableError: the API did not answer; the document may have been accepted.
            ApiRefusedError: the API answered with an error.
        """
        return self._call("POST", path, document=document, headers=headers)

    def delete(self, path: str, query: Mapping[str, str]) -> None:
        """Delete what `path` and `query` name.

        Raises:
            ApiUnreachableError: the API did not answer; it may have been deleted.
            ApiRefusedError: the API answered with an error.
        """
        self._call("DELETE", path, query=query)

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiAnswer:
        body = None if document is None else json.dumps(document).encode()
        content_type = {} if body is None else {"Content-Type": "application/json"}
        all_headers = {**content_type, **(headers or {})}
        try:
            return self._runner.run(
                self._request(method, path, query=query, body=body, headers=all_headers)
            )
        except TimeoutError as error:
            raise ApiUnreachableError(f"no answer from {self.url} in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachableError(
                f"no answer from {self.url} ({_describe_cause(error)})"
            ) from error
        except ValueError as error:
            raise ApiUnreachableError(f"{self.url} is not a valid address") from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> ApiAnswer:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                headers={"Authorization": f"Bearer {self._key.value}"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        async with self._session.request(
            method, self.url + path, params=query, data=body, headers=headers
        ) as response:
            text = await response.text(errors="replace")
            document = _parse_json(text)
            if not response.ok:
                sentence = _error_sentence(response.status, document)
                retry_after = _parse_seconds(response.headers.get("Retry-After", ""))
                raise ApiRefusedError(response.status, sentence, retry_after=retry_after)
            if document is None and response.status != 204:
                raise ApiRefusedError(response.status, f"{self.url} is not our API")
            return ApiAnswer(response.status, document)


def connect(settings: Settings, *, seconds: float = 30.0) -> ApiClient:
    """Return a client for the API that the settings name.

    Raises:
        SettingsError: there is no API key.
    """
    return ApiClient(settings.api_url, read_api_key(settings), seconds=seconds)


def read_api_key(settings: Settings) -> Secret:
    """Read the API key: `COMMS_API_KEY`, or the one that `comms up` wrote to its data folder.

    Raises:
        SettingsError: there is neither.
    """
    key = settings.environment.get("COMMS_API_KEY", "").strip()
    if key:
        return Secret(key)
    path = settings.data_dir / KEY_FILE
    try:
        return Secret(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise SettingsError(
            "COMMS_API_KEY",
            f"not set, and {path} cannot be read ({error.strerror}); start `comms up`, or create a"
            " key with `comms keys create`",
        ) from error


def field_problems(document: object) -> Iterator[str]:
    """Yield `field: problem` for each field that a problem document names."""
    errors = document.get("errors") if isinstance(document, dict) else None
    for error in errors if isinstance(errors, list) else []:
        if isinstance(error, dict):
            yield f"{error.get('field')}: {error.get('problem')}"


def problem_text(document: object) -> str:
    """Return a problem document as one line; empty if it is not one."""
    if not isinstance(document, dict):
        return ""
    fields = "; ".join(field_problems(document))
    return fields or str(document.get("detail") or document.get("title") or "")


def _error_sentence(status: int, document: object) -> str:
    text = problem_text(document)
    return f"{text} (HTTP {status})" if text else f"HTTP {status}"


def _parse_seconds(text: str) -> float | None:
    """Parse a Retry-After in seconds; one with a date is ignored."""
    return float(text) if text.isascii() and text.isdecimal() else None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _describe_cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number) if number else "no connection"
    return type(error).__name__
