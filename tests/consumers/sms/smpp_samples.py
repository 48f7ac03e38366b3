"""Adapters of the kind `smpp` on an SMSC of the tests, what they send, and who listens to them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import smpp34

from consumers.sdk.provider import Provider
from consumers.sdk.receipt_stream import ReceiptNotStoredError, StreamingProvider
from consumers.sdk.receipts import ReceiptEvent
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel
from tests.consumers.contract.samples import message, only_provider, settings_with
from tests.consumers.contract.suite import Fate
from tests.consumers.sms.smpp_stub import PASSWORD, SYSTEM_ID, Smsc

_TO = {
    Fate.ACCEPTED: "+15551230001",
    Fate.REFUSED: "+15551230002",
    Fate.TRANSIENT: "+15551230003",
    Fate.NO_RESPONSE: "+15551230004",
}
_ANSWERS = {"15551230001": 0, "15551230002": 0x0B, "15551230003": 0x08, "15551230004": None}
LONG = "The quick brown fox jumps over the lazy dog. " * 8  # three parts of GSM-7


def fated(submit: smpp34.SubmitSm) -> int | None:
    return _ANSWERS[submit.destination_addr]


def sms(fate: Fate = Fate.ACCEPTED, **more: Any) -> SmsMessage:
    made = message(Channel.SMS, _TO[fate])
    assert isinstance(made, SmsMessage)
    return replace(made, **more)


@asynccontextmanager
async def adapter(at: int, /, **table: object) -> AsyncIterator[Provider[Any]]:
    """The adapter for an SMSC on a port; `password` is none of the table's."""
    environment = {"SMPP_PASSWORD": str(table.pop("password", PASSWORD))}
    full = {
        **{"name": "smpp", "host": "127.0.0.1", "port": at, "security": "none"},
        **{"system_id": SYSTEM_ID, "from": "+15005550006", **table},
    }
    settings = settings_with(Channel.SMS, full, environment=environment)
    provider = only_provider(settings, Channel.SMS)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


@dataclass
class Desk:
    """Takes what is said, or says that it cannot."""

    said: list[ReceiptEvent] = field(default_factory=list)
    closed: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell(self, said: Sequence[ReceiptEvent]) -> None:
        await self.gate.wait()
        if self.closed:
            raise ReceiptNotStoredError("no database")
        self.said.extend(said)


@asynccontextmanager
async def listening(smsc: Smsc, **table: object) -> AsyncIterator[tuple[Provider[Any], Desk]]:
    """An adapter that is bound, and the desk it tells."""
    desk = Desk()
    desk.gate.set()
    async with adapter(smsc.port, **table) as provider:
        assert await provider.probe() is None
        assert isinstance(provider, StreamingProvider)
        task = asyncio.create_task(provider.listen(desk.tell))
        try:
            yield provider, desk
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
