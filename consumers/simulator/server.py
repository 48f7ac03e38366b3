"""The simulated provider's HTTP server: takes messages, answers as told, shows its book of calls.

`comms run simulator` awaits `serve`. `POST /v1/{channel}/messages` is what an adapter calls;
`GET /calls?message_id=` and `GET /calls/summary` are for whoever wants to compare.
"""

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from aiohttp import web

from comms.platform import health
from comms.platform.settings import Secret, Settings, SettingsError
from consumers.simulator.behaviour import Behaviour, Decision, Result, word_of
from consumers.simulator.book import Call, CallBook
from consumers.simulator.options import SimulatorOptions, read
from consumers.simulator.postman import Postman
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

_SAID: Mapping[Result, tuple[int, str, str]] = {
    Result.REFUSED: (400, "invalid_recipient", "Nobody can be reached there"),
    Result.UNAVAILABLE: (503, "unavailable", "Try again later"),
    Result.LIMITED: (429, "rate_limited", "Too many requests"),
}


class _InvalidRequestError(ValueError):
    """A request lacks what it needs."""


class SimulatorServer:
    """The provider on one address.

    Args:
        port: 0 for any free one; see `url` once started.
    """

    def __init__(
        self, options: SimulatorOptions, secret: Secret, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._host, self._port = host, port
        self._behaviours = {
            channel: Behaviour(manners, seed=options.seed + number)
            for number, (channel, manners) in enumerate(options.manners.items())
        }
        self._book = CallBook(options.journal)
        self._postman = Postman(
            secret, retry_seconds=options.receipt_retry_seconds, batch=options.receipt_batch
        )
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Begin to answer.

        Raises:
            OSError: the port is taken.
        """
        await self._postman.open()
        # A request whose caller went away is not answered: its task ends with its connection.
        self._runner = web.AppRunner(
            self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.5
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=1024)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop answering and posting."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._postman.close()
        self._book.close()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/{channel}/messages", self._take)
        app.router.add_get("/calls", self._calls)
        app.router.add_get("/calls/summary", self._summary)
        for path in ("/healthz", "/readyz", "/metrics"):
            app.router.add_get(path, _health)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        try:
            channel = Channel(request.match_info["channel"])
            asked = _read(await request.read())
        except ValueError as error:
            return _json(422, {"code": "invalid_request", "message": str(error)})
        decision, call = self._decide(channel, asked)
        self._book.record(call)
        if decision.result is Result.UNANSWERED:
            await asyncio.Event().wait()  # until the caller goes away
        if decision.delivered is not None and asked["callback_url"]:
            self._promise_receipt(channel, call, decision, asked["callback_url"])
        await asyncio.sleep(decision.seconds)
        return _answer(decision, call)

    def _decide(self, channel: Channel, asked: Mapping[str, Any]) -> tuple[Decision, Call]:
        message_id = asked["client_ref"]
        decision = self._behaviours[channel].decide(
            word_of(channel, asked["to"]),
            call=len(self._book.of_message(message_id)) + 1,
            now=time.monotonic(),
        )
        accepted = decision.result is Result.ACCEPTED
        call = Call(
            message_id=message_id,
            channel=channel,
            attempt=asked["attempt"],
            result=decision.result,
            provider_message_id=f"sim-{uuid4().hex}" if accepted else None,
            at=time.time(),
        )
        return decision, call

    def _promise_receipt(
        self, channel: Channel, call: Call, decision: Decision, callback_url: str
    ) -> None:
        """Promised when the request is taken: a caller that dies meanwhile changes nothing."""
        delay = decision.seconds + self._behaviours[channel].manners.receipt_delay_ms / 1000
        failed = not decision.delivered
        receipt = {
            "id": call.provider_message_id,
            "client_ref": call.message_id,
            "status": "failed" if failed else "delivered",
            "code": "unreachable" if failed else None,
            "detail": "The recipient could not be reached" if failed else None,
            "occurred_at": datetime.fromtimestamp(call.at + delay, UTC).isoformat(),
        }
        self._postman.due(callback_url, receipt, seconds=delay)

    async def _calls(self, request: web.Request) -> web.Response:
        calls = self._book.of_message(request.query.get("message_id", ""))
        return _json(200, {"items": [asdict(call) for call in calls]})

    async def _summary(self, _: web.Request) -> web.Response:
        return _json(200, self._book.summary())


async def _health(request: web.Request) -> web.Response:
    status, kind, body = health.respond(request.path, list)
    return web.Response(body=body, status=status, headers={"Content-Type": kind})


def _read(body: bytes) -> Mapping[str, Any]:
    """The request, if it has what is needed.

    Raises:
        ValueError: it is no JSON, or a field is missing.
    """
    data: dict[str, Any] = json.loads(body)
    wanted = {"client_ref": str, "to": str, "callback_url": str, "attempt": int}
    for name, kind in wanted.items():
        if not isinstance(data, dict) or not isinstance(data.get(name), kind):
            raise _InvalidRequestError(f"{name}: missing, or of the wrong type")
    return data


def _answer(decision: Decision, call: Call) -> web.Response:
    if decision.result is Result.ACCEPTED:
        return _json(201, {"id": call.provider_message_id, "status": "accepted"})
    status, code, text = _SAID[decision.result]
    response = _json(status, {"code": code, "message": text})
    if decision.retry_after is not None:
        response.headers["Retry-After"] = str(decision.retry_after)
    return response


def _json(status: int, data: Mapping[str, Any]) -> web.Response:
    return web.Response(
        body=json.dumps(data).encode(), status=status, headers={"Content-Type": "application/json"}
    )


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run the provider on the port of `simulator_url` until `stop` is set.

    Raises:
        SettingsError: a setting is wrong, the journal cannot be used or the port is taken.
    """
    options = read(settings)
    port = urlsplit(settings.simulator_url).port or 80
    try:
        server = SimulatorServer(
            options, settings.receipt_secret, host=settings.http_host, port=port
        )
        await server.start()
    except OSError as error:
        raise SettingsError("COMMS_SIMULATOR_URL", f"cannot serve: {error.strerror}") from error
    log.info("simulator.ready", url=server.url)
    try:
        await stop.wait()
    finally:
        await server.stop()


def run_simulator(settings: Settings, stop: threading.Event) -> None:
    """Run the provider until a thread's event is set; raises as `serve` does."""

    async def until_stopped() -> None:
        over = asyncio.Event()
        waiting = asyncio.create_task(asyncio.to_thread(stop.wait))
        waiting.add_done_callback(lambda _: over.set())
        await serve(settings, over)

    asyncio.run(until_stopped())
