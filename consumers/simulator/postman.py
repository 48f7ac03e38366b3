"""Carries the simulated provider's receipts to whoever asked for them, as a real provider would.

The server calls `due` when a message is accepted. When its time has come a receipt is signed and
posted to the callback URL; those that fall due together, for one URL, share a request. While the
endpoint is away, or answers 5xx, a request is repeated with growing waits until its time is up.
"""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from comms.platform.settings import Secret
from consumers.sdk.http_transport import HttpTransport, TransportError
from consumers.simulator.adapter import SIGNATURE_HEADER, signature

log = structlog.get_logger(__name__)

posted_total = Counter(
    "comms_simulator_receipts_total", "Receipts of the simulated provider.", ["result"]
)

_GATHER_SECONDS = 0.02  # how long receipts wait for company
_CALL_SECONDS = 30.0
_CONNECTIONS = 16
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0

Receipt = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class _Parcel:
    url: str
    receipts: tuple[Receipt, ...]
    give_up_at: float


class Postman:
    """Posts receipts; everything happens on the loop that called `open`.

    Args:
        secret: what requests are signed with; batch: receipts in a request, at most.
        retry_seconds: how long a receipt is offered.
    """

    def __init__(self, secret: Secret, *, retry_seconds: float, batch: int) -> None:
        self._secret, self._retry_seconds, self._batch = secret, retry_seconds, batch
        self._transport = HttpTransport(timeout_seconds=_CALL_SECONDS, connections=_CONNECTIONS)
        self._waiting: defaultdict[str, list[Receipt]] = defaultdict(list)
        self._turn = asyncio.Semaphore(_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._collecting: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(self) -> None:
        """Prepare connections."""
        await self._transport.open()

    def due(self, url: str, receipt: Receipt, *, seconds: float) -> None:
        """Post `receipt` to `url` in so many seconds."""
        asyncio.get_running_loop().call_later(seconds, self._add, url, receipt)

    async def close(self) -> None:
        """Stop; what has not been posted is lost, as the stub's memory is."""
        self._closed = True
        if self._collecting is not None:
            self._collecting.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()

    def _add(self, url: str, receipt: Receipt) -> None:
        if self._closed:
            return
        self._waiting[url].append(receipt)
        if self._collecting is None:
            loop = asyncio.get_running_loop()
            self._collecting = loop.call_later(_GATHER_SECONDS, self._collect)

    def _collect(self) -> None:
        self._collecting = None
        waiting, self._waiting = self._waiting, defaultdict(list)
        give_up_at = time.monotonic() + self._retry_seconds
        for url, receipts in waiting.items():
            for start in range(0, len(receipts), self._batch):
                share = tuple(receipts[start : start + self._batch])
                task = asyncio.create_task(self._carry(_Parcel(url, share, give_up_at)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _carry(self, parcel: _Parcel) -> None:
        wait = _FIRST_WAIT
        while (result := await self._post(parcel)) is None:
            pause = wait * random.uniform(0.5, 1)  # noqa: S311 - spreads repetitions
            if time.monotonic() + pause > parcel.give_up_at:
                result = "given_up"
                break
            await asyncio.sleep(pause)
            wait = min(wait * 2, _LONGEST_WAIT)
        posted_total.labels(result).inc(len(parcel.receipts))
        if result != "taken":
            log.warning("simulator.receipts_lost", result=result, receipts=len(parcel.receipts))

    async def _post(self, parcel: _Parcel) -> str | None:
        """`taken` or `refused`; None where a repetition may help."""
        body = json.dumps(parcel.receipts).encode()
        async with self._turn:
            headers = {
                "Content-Type": "application/json",
                SIGNATURE_HEADER: signature(self._secret, timestamp=int(time.time()), body=body),
            }
            try:
                answer = await self._transport.call("POST", parcel.url, body=body, headers=headers)
            except TransportError:
                return None
        if 200 <= answer.status < 300:
            return "taken"
        return None if answer.status in (408, 425, 429) or answer.status >= 500 else "refused"
