"""A provider in a process of its own that writes down every call before it answers.

The chaos run starts it as `python -m tests.chaos.provider`. It speaks what the simulated provider's
adapter speaks, with code of its own. Its journal is the truth about what was really asked for:
`accepted` calls took effect, `hung` and `closed` ones as well, although nobody was told.

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

_RECEIPT_TRIES = 60


class Journal:
    """One line of JSON a call, in the order of arrival, flushed before the answer leaves."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, **line: object) -> None:
        """Add a line."""
        self._file.write(json.dumps({"at": time.time(), **line}) + "\n")


class ChaoticProvider:
    """Accepts, misbehaves as told, and sends receipts: late, twice, with a clock that is wrong."""

    def __init__(self, journal: Journal, secret: str, seed: int) -> None:
        self._journal, self._secret = journal, secret
        self._chance = random.Random(seed)
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
        said = await request.json()
        mode = self._mode if self._chance.random() < 0.9 else "ok"
        answer = {"ok": "accepted", "hang": "hung", "close": "closed"}.get(mode, mode)
        self._journal.write(
            channel=request.match_info["channel"],
            id=said["client_ref"],
            attempt=said["attempt"],
            to=said["to"],
            answer=answer,
        )
        if mode == "limited":
            return web.json_response(
                {"code": "slow_down"}, status=429, headers={"Retry-After": "1"}
            )
        if mode == "error":
            return web.json_response({"code": "broken"}, status=503)
        number = f"c-{self._chance.getrandbits(64):016x}"
        self._later(self._receipts(said, number))
        if mode == "close":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        await asyncio.sleep(600 if mode == "hang" else self._chance.uniform(0.01, 0.15))
        return web.json_response({"id": number}, status=202)

    def _later(self, work) -> None:  # type: ignore[no-untyped-def]
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _receipts(self, said: dict[str, str], number: str) -> None:
        skew = timedelta(seconds=self._chance.uniform(-300, 300))
        receipt = {
            "client_ref": said["client_ref"],
            "id": number,
            "status": "delivered",
            "occurred_at": (datetime.now(UTC) + skew).isoformat(),
        }
        copies = 2 if self._chance.random() < 0.1 else 1
        for _ in range(copies):
            await asyncio.sleep(
                self._chance.choice((0.0, 0.1, 0.5, 2.0))
            )  # may overtake the answer
            await self._deliver(said["callback_url"], [receipt])

    async def _deliver(self, url: str, receipts: list[dict[str, str]]) -> None:
        assert self._session is not None
        body = json.dumps(receipts).encode()
        for _ in range(_RECEIPT_TRIES):
            stamp = int(time.time())
            signed = hmac.new(self._secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256)
            headers = {
                "Content-Type": "application/json",
                "X-Simulated-Signature": f"t={stamp},v1={signed.hexdigest()}",
            }
            try:
                async with self._session.post(url, data=body, headers=headers) as answer:
                    if answer.status < 500:
                        return
            except (ClientError, TimeoutError):
                pass
            await asyncio.sleep(1.0)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    provider = ChaoticProvider(Journal(given.journal), given.secret, given.seed)
    web.run_app(
        provider.app(),
        host="127.0.0.1",
        port=given.port,
        print=lambda *_: None,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )


if __name__ == "__main__":
    main()
