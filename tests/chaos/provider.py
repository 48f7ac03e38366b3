"""A provider that records every call in a journal before it responds.

The chaos run starts it as a process: `python -m tests.chaos.provider`. It implements the protocol
of the simulated provider independently. Its journal shows which calls really arrived. Calls with
the answer `accepted`, `hung` or `closed` took effect, although the caller of a `hung` or `closed`
one gets no response.

`POST /control {"mode": …}` makes it misbehave: `limited` (429), `error` (503), `hang`, `close`.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, web

_RECEIPT_ATTEMPTS = 60


class Journal:
    """One line of JSON per call, in the order of arrival, flushed before the response is sent."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, **line: object) -> None:
        """Append a line."""
        self._file.write(json.dumps({"at": time.time(), **line}) + "\n")


class ChaoticProvider:
    """Accepts messages, misbehaves on request, and sends receipts: late, twice, misdated."""

    def __init__(self, journal: Journal, secret: str, seed: int) -> None:
        self._journal = journal
        self._secret = secret
        self._rng = random.Random(seed)
        self._mode = "ok"
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: ClientSession | None = None

    def app(self) -> web.Application:
        """The web application."""
        app = web.Application()
        app.router.add_post("/v1/{channel}/messages", self._message)
        app.router.add_post("/control", self._control)
        app.router.add_get("/readyz", self._ready)
        app.cleanup_ctx.append(self._with_session)
        return app

    async def _with_session(self, _: web.Application):  # type: ignore[no-untyped-def]
        self._session = ClientSession(timeout=ClientTimeout(total=5))
        yield
        for task in self._tasks:
            task.cancel()
        await self._session.close()

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ready")

    async def _control(self, request: web.Request) -> web.Response:
        self._mode = (await request.json())["mode"]
        return web.Response(text=self._mode)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        message = await request.json()
        mode = self._mode if self._rng.random() < 0.9 else "ok"
        answer = {"ok": "accepted", "hang": "hung", "close": "closed"}.get(mode, mode)
        self._journal.write(
            channel=request.match_info["channel"],
            id=message["client_ref"],
            attempt=message["attempt"],
            to=message["to"],
            answer=answer,
        )
        if mode == "limited":
            return web.json_response(
                {"code": "slow_down"}, status=429, headers={"Retry-After": "1"}
            )
        if mode == "error":
            return web.json_response({"code": "broken"}, status=503)
        number = f"c-{self._rng.getrandbits(64):016x}"
        self._later(self._receipts(message, number))
        if mode == "close":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        await asyncio.sleep(600 if mode == "hang" else self._rng.uniform(0.01, 0.15))
        return web.json_response({"id": number}, status=202)

    def _later(self, work) -> None:  # type: ignore[no-untyped-def]
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _receipts(self, message: dict[str, str], number: str) -> None:
        skew = timedelta(seconds=self._rng.uniform(-300, 300))
        receipt = {
            "client_ref": message["client_ref"],
            "id": number,
            "status": "delivered",
            "occurred_at": (datetime.now(UTC) + skew).isoformat(),
        }
        copies = 2 if self._rng.random() < 0.1 else 1
        for _ in range(copies):
            # A receipt without a delay may arrive before the response.
            await asyncio.sleep(self._rng.choice((0.0, 0.1, 0.5, 2.0)))
            await self._deliver(message["callback_url"], [receipt])

    async def _deliver(self, url: str, receipts: list[dict[str, str]]) -> None:
        body = json.dumps(receipts).encode()
        for _ in range(_RECEIPT_ATTEMPTS):
            if await self._post(url, body):
                return
            await asyncio.sleep(1.0)

    async def _post(self, url: str, body: bytes) -> bool:
        """Whether the app answered the receipt. It does not while it is down or slow."""
        assert self._session is not None
        try:
            async with self._session.post(url, data=body, headers=self._sign(body)) as response:
                return response.status < 500
        except (ClientError, TimeoutError):
            return False

    def _sign(self, body: bytes) -> dict[str, str]:
        timestamp = int(time.time())
        signed = f"{timestamp}.".encode() + body
        signature = hmac.new(self._secret.encode(), signed, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/json",
            "X-Simulated-Signature": f"t={timestamp},v1={signature}",
        }


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    provider = ChaoticProvider(Journal(options.journal), options.secret, options.seed)
    web.run_app(
        provider.app(),
        host="127.0.0.1",
        port=options.port,
        print=lambda *_: None,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )


if __name__ == "__main__":
    main()
