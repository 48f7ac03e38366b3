"""What each way in which a call can go wrong is taken for, on a real socket: before the request was
written nothing was carried out, after it nobody knows. No call is made twice, by no method."""

import asyncio
import threading

import pytest

from consumers.sdk.http_transport import AnswerLostError, NotSentError, TransportError
from schemas.vocabulary import Reason
from tests.consumers.contract.samples import closed_port
from tests.consumers.sdk.http_transport.wire import (
    OK,
    Peer,
    Script,
    answer,
    silence,
    transport,
    wire,
)

BODY = b"To=%2B12025550142&Body=Hello"
METHODS = ["POST", "GET", "PUT", "DELETE", "PATCH"]


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"http://127.0.0.1:{closed_port()}", id="closed-port"),
        "http://nowhere.invalid",
        "http://",
        "http://[::1",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "no address",
    ],
)
async def test_where_nobody_is_reached_nothing_was_sent(url: str) -> None:
    async with transport() as calls:
        with pytest.raises(NotSentError) as caught:
            await calls.call("POST", url, body=BODY)
    assert caught.value.reason is Reason.PROVIDER_ERROR


async def test_a_header_that_cannot_be_written_sends_nothing() -> None:
    async with wire(answer) as server, transport() as calls:
        with pytest.raises(NotSentError):
            await calls.call("POST", server.url, body=BODY, headers={"X-Reference": "a\r\nTo: b"})
        assert server.requests == []


async def _hang_up(peer: Peer) -> None:
    peer.reset()


async def _other_protocol(peer: Peer) -> None:
    await peer.say(b"220 mail.example.com ESMTP\r\n")


@pytest.mark.parametrize("script", [_hang_up, _other_protocol])
async def test_a_handshake_that_fails_has_sent_nothing(script: Script) -> None:
    async with wire(script) as server, transport() as calls:
        with pytest.raises(NotSentError, match="no connection"):
            await calls.call("POST", server.url.replace("http:", "https:"), body=BODY)


async def test_a_handshake_that_does_not_end_in_time_has_sent_nothing() -> None:
    async with wire(silence) as server, transport(timeout_seconds=0.4) as calls:
        with pytest.raises(NotSentError) as caught:
            await calls.call("POST", server.url.replace("http:", "https:"), body=BODY)
    assert caught.value.reason is Reason.TIMEOUT


async def test_a_call_that_got_no_connection_of_the_pool_in_time_has_sent_nothing() -> None:
    async with wire(silence) as server, transport(timeout_seconds=1, connections=1) as calls:
        first = asyncio.create_task(calls.call("POST", server.url, body=BODY))
        await server.touched()
        with pytest.raises(NotSentError) as caught:
            await calls.call("POST", server.url, body=BODY)
        assert caught.value.reason is Reason.TIMEOUT
        with pytest.raises(AnswerLostError):
            await first
        assert server.connections == 1


async def test_a_process_that_was_stopped_while_it_connected_has_sent_nothing() -> None:
    """Both limits have passed when it wakes: the connection's and the call's."""
    async with wire(silence) as server, transport(timeout_seconds=0.2) as calls:
        call = asyncio.create_task(
            calls.call("POST", server.url.replace("http:", "https:"), body=BODY)
        )
        await server.touched()
        threading.Event().wait(0.3)  # the loop, and with it the process, stands still
        with pytest.raises(NotSentError) as caught:
            await call
    assert caught.value.reason is Reason.TIMEOUT


async def test_a_transport_that_is_closed_sends_nothing() -> None:
    async with wire(answer) as server:
        async with transport() as calls:
            await calls.call("POST", server.url, body=BODY)
        with pytest.raises(NotSentError, match="not open"):
            await calls.call("POST", server.url, body=BODY)
        assert len(server.requests) == 1


async def _reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def _end(peer: Peer) -> None:
    await peer.request()


async def _half_head(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Le")


async def _half_body(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")


async def _half_chunks(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")


async def _reset_in_body(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
    peer.reset()


async def _no_http(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"220 mail.example.com ESMTP\r\n\r\n")


async def _endless_header(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000)
    await peer.gone()


async def _no_gzip(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok")
    await peer.gone()


@pytest.mark.parametrize(
    "script",
    [
        _reset,
        _end,
        _half_head,
        _half_body,
        _half_chunks,
        _reset_in_body,
        _no_http,
        _endless_header,
        _no_gzip,
    ],
)
@pytest.mark.parametrize("method", METHODS)
async def test_an_answer_that_is_not_whole_is_lost_and_not_asked_for_again(
    script: Script, method: str
) -> None:
    async with wire(script) as server, transport() as calls:
        with pytest.raises(AnswerLostError):
            await calls.call(method, server.url, body=BODY)
        assert (server.connections, len(server.requests)) == (1, 1)


async def _silent_in_body(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
    await peer.gone()


@pytest.mark.parametrize("script", [silence, _silent_in_body])
async def test_silence_after_the_request_is_a_lost_answer(script: Script) -> None:
    async with wire(script) as server, transport(timeout_seconds=1) as calls:
        with pytest.raises(AnswerLostError, match="no answer in time"):
            await calls.call("POST", server.url, body=BODY)
        assert server.connections == 1


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # as mails are
async def test_a_request_that_was_written_in_part_is_a_lost_answer() -> None:
    async def take_some(peer: Peer) -> None:
        await peer.some(100_000)
        peer.reset()

    async with wire(take_some) as server, transport() as calls:
        with pytest.raises(AnswerLostError):
            await calls.call("POST", server.url, body=b"x" * 8_000_000)
        assert server.connections == 1


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # as mails are
async def test_a_request_that_is_not_taken_in_time_is_a_lost_answer() -> None:
    async def take_some(peer: Peer) -> None:
        await peer.some(1_000)
        await asyncio.Event().wait()

    async with wire(take_some) as server, transport(timeout_seconds=1) as calls:
        with pytest.raises(AnswerLostError, match="no answer in time"):
            await calls.call("POST", server.url, body=b"x" * 8_000_000)


@pytest.mark.parametrize("method", METHODS)
async def test_a_kept_connection_that_ends_with_the_request_is_a_lost_answer(method: str) -> None:
    """aiohttp would make the same call again, of whatever is not POST or PATCH."""

    async def answer_one(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()

    async with wire(answer_one) as server, transport() as calls:
        await calls.call(method, server.url, body=BODY)
        with pytest.raises(AnswerLostError):
            await calls.call(method, server.url, body=BODY)
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_a_kept_connection_that_ended_before_is_not_used() -> None:
    ended = asyncio.Event()

    async def answer_one(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        if server.connections == 1:
            peer.reset()
            ended.set()
        await peer.gone()

    async with wire(answer_one) as server, transport() as calls:
        await calls.call("POST", server.url, body=BODY)
        await ended.wait()
        for _ in range(20):  # until our side has heard of it
            await asyncio.sleep(0)
        found = await calls.call("POST", server.url, body=BODY)
        assert (found.status, server.connections, len(server.requests)) == (200, 2, 2)


async def test_an_error_shows_nothing_of_the_address() -> None:
    url = f"http://127.0.0.1:{closed_port()}/secret?token=secret"
    async with transport() as calls:
        with pytest.raises(TransportError) as caught:
            await calls.call("POST", url, body=BODY)
    assert "secret" not in str(caught.value)
