"""What a server, or this machine's environment, cannot make a call do: follow, remember, fill
memory, or go by somebody else."""

import asyncio
import gzip
import tracemalloc
from pathlib import Path

import pytest

from consumers.sdk.http_transport import ANSWER_LIMIT
from tests.consumers.contract.samples import closed_port
from tests.consumers.sdk.http_transport.wire import OK, Peer, Script, answer, transport, wire

LONG = 64 * 1024 * 1024
PIECE = b"x" * 65_536
BOMB = gzip.compress(b"x" * LONG)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with wire(answer) as elsewhere:

        async def point(peer: Peer) -> None:
            head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {elsewhere.url}/x\r\n"
            while True:
                await peer.request()
                await peer.say(head.encode() + b"Content-Length: 0\r\n\r\n")

        async with wire(point) as server, transport() as calls:
            for method in ("POST", "GET"):
                found = await calls.call(method, server.url, body=b"x")
                assert found.status == status
        assert elsewhere.connections == 0


async def _long(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG)
    for _ in range(LONG // len(PIECE)):
        await peer.say(PIECE)


async def _endless(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await peer.say(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))


async def _packed(peer: Peer) -> None:
    await peer.request()
    await peer.say(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
    )
    await peer.say(BOMB)


@pytest.mark.parametrize("script", [_long, _endless, _packed])
async def test_an_answer_is_read_up_to_a_limit_and_fills_no_memory(script: Script) -> None:
    async with wire(script) as server, transport(connections=1) as calls:
        tracemalloc.start()
        try:
            first = await calls.call("POST", server.url, body=b"x")
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert first.text == "x" * ANSWER_LIMIT
        assert most < 16 * 1024 * 1024
        await calls.call("POST", server.url, body=b"x")
        assert server.connections == 2  # what is left of an answer is never taken for another's


async def test_neither_proxies_nor_passwords_of_the_environment_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with wire(answer) as server, transport() as calls:
        assert (await calls.call("POST", server.url, body=b"x")).status == 200
        assert b"authorization" not in server.requests[0].lower()


async def test_cookies_are_not_kept() -> None:
    async def set_one(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(OK.replace(b"\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n", 1))

    async with wire(set_one) as server, transport() as calls:
        for _ in range(2):
            await calls.call("POST", server.url, body=b"x")
        assert server.connections == 1
        assert b"cookie" not in server.requests[1].lower()


async def test_connections_are_kept_and_no_more_than_allowed_are_opened() -> None:
    async with wire(answer) as server, transport(connections=2) as calls:
        for _ in range(5):
            await calls.call("POST", server.url, body=b"x")
        assert server.connections == 1
        await asyncio.gather(*(calls.call("POST", server.url, body=b"x") for _ in range(40)))
        assert (server.connections, len(server.requests)) == (2, 45)
