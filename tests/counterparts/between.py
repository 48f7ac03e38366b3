"""Stands between an adapter and a counterpart, to change what the one says to the other.

Tests use it to show that a counterpart looks: what is taken as we wrote it is refused once it was
changed here. Nothing is changed in answers.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
from aiohttp import web

from tests.consumers.contract.samples import closed_port

_OF_A_HOP = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding")


@dataclass(frozen=True, slots=True)
class ReceiptEvent:
    """A request, as far as it may be changed."""

    headers: dict[str, str]  # by names in small letters
    body: bytes


Change = Callable[[ReceiptEvent], ReceiptEvent]


def without(name: str) -> Change:
    """Leaves a header out."""

    def change(said: ReceiptEvent) -> ReceiptEvent:
        kept = {key: value for key, value in said.headers.items() if key != name}
        return replace(said, headers=kept)

    return change


@asynccontextmanager
async def between(url: str, change: Change) -> AsyncIterator[str]:
    """The address at which requests for `url` are changed."""

    async def passed_on(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        kept = {name: value for name, value in headers.items() if name not in _OF_A_HOP}
        said = change(ReceiptEvent(kept, await request.read()))
        async with session.request(
            request.method, f"{url}{request.path_qs}", data=said.body, headers=said.headers
        ) as answer:
            kind = answer.headers.get("Content-Type", "text/plain")
            return web.Response(
                status=answer.status, body=await answer.read(), headers={"Content-Type": kind}
            )

    app = web.Application(client_max_size=50 * 1024 * 1024)
    app.router.add_route("*", "/{rest:.*}", passed_on)
    runner, port = web.AppRunner(app), closed_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession() as session:
            yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
