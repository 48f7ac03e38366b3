"""What each failure of a call over HTTP/2 is taken for; what a server that goes away has looked at
is in `tests/consumers/push/test_apns.py`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consumers.push.http2 import Http2Transport
from consumers.sdk.http_transport import AnswerLostError, NotSentError
from schemas.vocabulary import Reason
from tests.consumers.contract.samples import closed_port
from tests.consumers.sdk.http_transport.wire import Peer, Script, Wire, silence, wire

BODY = b'{"aps": {"alert": "Hello"}}'
SETTINGS = b"\x00\x00\x00\x04\x00" + bytes(4)
ONE_AT_A_TIME = b"\x00\x00\x06\x04\x00" + bytes(4) + b"\x00\x03" + (1).to_bytes(4, "big")


@asynccontextmanager
async def calling(
    script: Script, *, timeout_seconds: float = 30
) -> AsyncIterator[tuple[Wire, Http2Transport]]:
    """A server that does as `script` says, and what calls it."""
    async with wire(script) as server:
        calls = Http2Transport(server.url, timeout_seconds=timeout_seconds)
        await calls.open()
        try:
            yield server, calls
        finally:
            await calls.close()


async def test_where_nobody_listens_nothing_was_sent() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    calls = Http2Transport(url, timeout_seconds=30)
    await calls.open()
    with pytest.raises(NotSentError):
        await calls.call("POST", url, body=BODY)
    await calls.close()


async def test_a_server_that_does_not_begin_in_time_was_sent_nothing() -> None:
    async with calling(silence, timeout_seconds=0.4) as (server, calls):
        with pytest.raises(NotSentError) as caught:
            await calls.call("POST", server.url, body=BODY)
    assert caught.value.reason is Reason.TIMEOUT


async def _reset_at_once(peer: Peer) -> None:
    await peer.some(24)
    peer.reset()


async def test_a_connection_that_ends_before_it_began_was_sent_nothing() -> None:
    async with calling(_reset_at_once) as (server, calls):
        with pytest.raises(NotSentError):
            await calls.call("POST", server.url, body=BODY)


async def test_a_call_that_got_no_room_in_time_has_sent_nothing() -> None:
    async def take_one(peer: Peer) -> None:
        await peer.say(ONE_AT_A_TIME)
        await peer.until(BODY)
        taken.set()
        await peer.gone()

    taken = asyncio.Event()
    async with calling(take_one, timeout_seconds=1) as (server, calls):
        first = asyncio.create_task(calls.call("POST", server.url, body=BODY))
        async with asyncio.timeout(10):
            await taken.wait()
        with pytest.raises(NotSentError) as caught:
            await calls.call("POST", server.url, body=BODY)
        assert caught.value.reason is Reason.TIMEOUT
        with pytest.raises(AnswerLostError, match="no answer in time"):
            await first
        assert server.connections == 1


async def _reset_after(peer: Peer) -> None:
    await peer.say(SETTINGS)
    await peer.until(BODY)
    peer.reset()


async def _end_after(peer: Peer) -> None:
    await peer.say(SETTINGS)
    await peer.until(BODY)


async def _nonsense_after(peer: Peer) -> None:
    await peer.say(SETTINGS)
    await peer.until(BODY)
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await peer.gone()


@pytest.mark.parametrize("script", [_reset_after, _end_after, _nonsense_after])
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
async def test_a_connection_that_ends_with_the_request_is_a_lost_answer(
    script: Script, method: str
) -> None:
    async with calling(script) as (server, calls):
        with pytest.raises(AnswerLostError, match="connection was lost"):
            await calls.call(method, server.url, body=BODY)
        assert server.connections == 1
