"""Expo's receipts, on a free port of loopback, with a record of what was asked."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.consumers.contract.http_suite import Reply

OK: dict[str, Any] = {"status": "ok"}


def bad(error: str, said: str = "no", **details: object) -> dict[str, Any]:
    """A receipt of a notification that Google or Apple did not take."""
    return {"status": "error", "message": said, "details": {"error": error, **details}}


class ExpoStub:
    """Has the receipts it is given; takes every notification, with the ticket `t-1` and so on.

    Attributes:
        receipts: by ticket; asked: the tickets of each request for receipts.
        reply: what it answers in their place, where it is set.
    """

    def __init__(self) -> None:
        self.receipts: dict[str, dict[str, Any]] = {}
        self.asked: list[list[str]] = []
        self.authorizations: list[str | None] = []
        self.reply: Reply | None = None
        self.url = ""
        self._taken = 0

    @property
    def tickets_asked(self) -> list[str]:
        """Every ticket, as often as it was asked for."""
        return [ticket for tickets in self.asked for ticket in tickets]

    async def take(self, request: web.Request) -> web.Response:
        """`POST /--/api/v2/push/send`."""
        tickets = []
        for _ in json.loads(await request.read())[0]["to"]:
            self._taken += 1
            tickets.append({"status": "ok", "id": f"t-{self._taken}"})
        return web.json_response({"data": tickets})

    async def answer(self, request: web.Request) -> web.Response:
        """`POST /--/api/v2/push/getReceipts`."""
        tickets = json.loads(await request.read())["ids"]
        self.asked.append(tickets)
        self.authorizations.append(request.headers.get("Authorization"))
        if self.reply is not None:
            reply = self.reply
            return web.Response(status=reply.status, text=reply.text, headers=reply.headers)
        found = {ticket: self.receipts[ticket] for ticket in tickets if ticket in self.receipts}
        return web.json_response({"data": found})


@asynccontextmanager
async def expo_stub() -> AsyncIterator[ExpoStub]:
    """A stub that answers while the block lasts."""
    stub = ExpoStub()
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/--/api/v2/push/send", stub.take)
    app.router.add_post("/--/api/v2/push/getReceipts", stub.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stub
    finally:
        await runner.cleanup()
