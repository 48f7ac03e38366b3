"""HTTP clients alone, each used as in an asyncio service.

`benchmarks.clients` measures them. `benchmarks.phases` prints the errors that they raise.
`benchmarks.adapter` compares an adapter with aiohttp. The clients that the product does not use are
in the extra `bench`; a client that is not installed is skipped.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import aiohttp

# The body of a request to Twilio to send a text message.
BODY = urlencode(
    {
        "To": "+12125550142",
        "From": "+15005550006",
        "Body": "Your technician arrives between nine and ten tomorrow.",
        "StatusCallback": "https://comms.example.com/receipts/sms/twilio"
        "?m=0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
        "ValidityPeriod": "14400",
    }
).encode()
HEADERS = {
    "Authorization": "Basic QUMwMTIzNDU2Nzg5YWJjZGVmOnRoZSBhdXRoIHRva2Vu",
    "Content-Type": "application/x-www-form-urlencoded",
}

# Makes one POST with BODY, reads the response, and returns its status.
Call = Callable[[], Awaitable[int]]


@asynccontextmanager
async def by_aiohttp(url: str, *, connections: int, seconds: float = 30) -> AsyncIterator[Call]:
    """Yield calls with aiohttp, which the product uses."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=seconds, connect=seconds / 2),
    ) as session:

        async def call() -> int:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                await response.text()
                return response.status

        yield call


@asynccontextmanager
async def by_pyreqwest(url: str, *, connections: int, seconds: float = 30) -> AsyncIterator[Call]:
    """Yield calls with Rust's reqwest, which works in a thread of its own."""
    builder = import_module("pyreqwest.client").ClientBuilder()
    async with (
        builder.max_connections(connections)
        .timeout(timedelta(seconds=seconds))
        .connect_timeout(timedelta(seconds=seconds / 2))
        .pool_timeout(timedelta(seconds=seconds / 2))
        .follow_redirects(False)
        .build() as client
    ):

        async def call() -> int:
            request = client.post(url).headers(HEADERS).body_bytes(BODY).build()
            response = await request.send()
            await response.text()
            return int(response.status)

        yield call


@asynccontextmanager
async def by_pycurl(url: str, *, connections: int, seconds: float = 30) -> AsyncIterator[Call]:
    """Yield calls with libcurl, whose sockets the event loop watches."""
    multi = _Multi(url, connections, seconds)
    try:
        yield multi.call
    finally:
        multi.close()


class _Multi:
    """The multi interface of libcurl, driven by asyncio."""

    def __init__(self, url: str, connections: int, seconds: float) -> None:
        self._curl = curl = import_module("pycurl")
        self._url = url
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[Any, asyncio.Future[None]] = {}
        self._idle: list[Any] = []
        self._multi: Any = curl.CurlMulti()
        self._multi.setopt(curl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(curl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(curl.M_MAX_TOTAL_CONNECTIONS, connections)
        self._multi.setopt(curl.M_MAXCONNECTS, connections)

    async def call(self) -> int:
        """Make one call and return the status of the response."""
        easy = self._idle.pop() if self._idle else self._new_easy()
        body = BytesIO()
        easy.setopt(self._curl.WRITEDATA, body)
        self._pending[easy] = response = self._loop.create_future()
        self._multi.add_handle(easy)
        try:
            await response
            body.getvalue().decode()
            return int(easy.getinfo(self._curl.RESPONSE_CODE))
        finally:
            self._multi.remove_handle(easy)
            self._idle.append(easy)

    def close(self) -> None:
        """Close all connections."""
        if self._timer is not None:
            self._timer.cancel()
        for easy in self._idle:
            easy.close()
        self._multi.close()

    def _new_easy(self) -> Any:
        curl, easy = self._curl, self._curl.Curl()
        easy.setopt(curl.URL, self._url)
        easy.setopt(curl.POSTFIELDS, BODY)
        easy.setopt(curl.HTTPHEADER, [f"{name}: {value}" for name, value in HEADERS.items()])
        easy.setopt(curl.HEADERFUNCTION, lambda _: None)
        easy.setopt(curl.NOSIGNAL, 1)
        easy.setopt(curl.CONNECTTIMEOUT_MS, int(500 * self._seconds))
        easy.setopt(curl.TIMEOUT_MS, int(1000 * self._seconds))
        return easy

    def _watch(self, event: int, fd: int, _: object, __: object) -> None:
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        if event in (self._curl.POLL_IN, self._curl.POLL_INOUT):
            self._loop.add_reader(fd, self._process, fd, self._curl.CSELECT_IN)
        if event in (self._curl.POLL_OUT, self._curl.POLL_INOUT):
            self._loop.add_writer(fd, self._process, fd, self._curl.CSELECT_OUT)

    def _set_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if milliseconds >= 0:
            self._timer = self._loop.call_later(
                milliseconds / 1000, self._process, self._curl.SOCKET_TIMEOUT, 0
            )

    def _process(self, fd: int, ready: int) -> None:
        self._multi.socket_action(fd, ready)
        queued = 1
        while queued:
            queued, succeeded, failed = self._multi.info_read()
            for easy in succeeded:
                self._pending.pop(easy).set_result(None)
            for easy, code, text in failed:
                self._pending.pop(easy).set_exception(self._curl.error(code, text))


Caller = Callable[..., AbstractAsyncContextManager[Call]]
_ALL: dict[str, Caller] = {
    "aiohttp": by_aiohttp,
    "pyreqwest": by_pyreqwest,
    "pycurl": by_pycurl,
}
CALLERS = {name: caller for name, caller in _ALL.items() if find_spec(name) is not None}
