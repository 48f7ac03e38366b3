"""A small client of the HTTP API, for the command line and the sample traffic.

Callers are plain functions, so the calls look synchronous; below them aiohttp keeps one pooled
connection on an event loop of the client's own. Here aiohttp's errors and the API's problem
documents become ours:

    ClientError
    ├── ApiUnreachableError   no answer; nothing is known of what was asked
    └── ApiRefusedError       the API answered, and said no (or that it cannot now)
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
    """The API did not do what was asked; the text is one line for a person."""


class ApiUnreachableError(ClientError):
    """Nobody answered. Asking again is safe where the request carries an idempotency key."""


class ApiRefusedError(ClientError):
    """The API refused.

    Attributes:
        status: the HTTP status; retry_after: seconds until it may be worth asking again.
    """

    def __init__(self, status: int, sentence: str, *, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may be accepted later."""
        return self.status in {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """A 2xx answer; 200 in place of 202 says that the message was known already."""

    status: int
    body: Any


class ApiClient:
    """Calls of one API with one key; a context manager.

    Args:
        url: the API's address, without a path.
        key: the API key.
        seconds: how long one call may take.
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
        """Release the connections."""
        if self._session is not None:
            self._runner.run(self._session.close())
        self._runner.close()

    def get(self, path: str, query: Mapping[str, str | None] | None = None) -> Any:
        """The JSON at `path`; entries of `query` that are None are left out.

        Raises:
            ApiUnreachableError, ApiRefusedError: there is none.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._call("GET", path, query=given).body

    def post(
        self, path: str, document: object, headers: Mapping[str, str] | None = None
    ) -> ApiAnswer:
        """Send a JSON document.

        Raises:
            ApiUnreachableError, ApiRefusedError: it was not accepted, or that is not known.
        """
        return self._call("POST", path, document=document, headers=headers)

    def delete(self, path: str, query: Mapping[str, str]) -> None:
        """Take away what `path` and `query` name.

        Raises:
            ApiUnreachableError, ApiRefusedError: it is there, or that is not known.
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
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            return self._runner.run(
                self._ask(method, path, query=query, body=body, headers={**kind, **(headers or {})})
            )
        except TimeoutError as error:
            raise ApiUnreachableError(f"no answer from {self.url} in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachableError(f"no answer from {self.url} ({_cause(error)})") from error
        except ValueError as error:
            raise ApiUnreachableError(f"{self.url} is no address of the API") from error

    async def _ask(
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
            found = _json(text)
            if not response.ok:
                said = _sentence(response.status, found)
                after = _seconds(response.headers.get("Retry-After", ""))
                raise ApiRefusedError(response.status, said, retry_after=after)
            if found is None and response.status != 204:
                raise ApiRefusedError(response.status, f"{self.url} does not answer as the API")
            return ApiAnswer(response.status, found)


def connect(settings: Settings, *, seconds: float = 30.0) -> ApiClient:
    """A client of the API the settings name.

    Raises:
        SettingsError: there is no API key.
    """
    return ApiClient(settings.api_url, key_of(settings), seconds=seconds)


def key_of(settings: Settings) -> Secret:
    """The API key: `COMMS_API_KEY`, or the one that `comms up` left in its data folder.

    Raises:
        SettingsError: neither is there.
    """
    given = settings.environment.get("COMMS_API_KEY", "").strip()
    if given:
        return Secret(given)
    path = settings.data_dir / KEY_FILE
    try:
        return Secret(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise SettingsError(
            "COMMS_API_KEY", f"not set, and {path} cannot be read ({error.strerror})"
        ) from error


def problems_in(document: object) -> Iterator[str]:
    """`field: problem` of each field that a problem document names."""
    errors = document.get("errors") if isinstance(document, dict) else None
    for error in errors if isinstance(errors, list) else []:
        if isinstance(error, dict):
            yield f"{error.get('field')}: {error.get('problem')}"


def sentence_of(document: object) -> str:
    """A problem document as one line."""
    if not isinstance(document, dict):
        return ""
    fields = "; ".join(problems_in(document))
    return fields or str(document.get("detail") or document.get("title") or "")


def _sentence(status: int, document: object) -> str:
    said = sentence_of(document)
    return f"{said} (HTTP {status})" if said else f"HTTP {status}"


def _seconds(text: str) -> float | None:
    """A Retry-After in seconds; one that gives a date is not read."""
    return float(text) if text.isascii() and text.isdecimal() else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number) if number else "no connection"
    return type(error).__name__
