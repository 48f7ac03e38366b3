"""Nothing is said to a server that does not prove its name by a certificate of a known authority,
over HTTP/1.1 and over HTTP/2."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import trustme

from consumers.push.http2 import Http2Transport
from consumers.sdk.http_transport import NotSentError
from tests.consumers.sdk.http_transport.wire import answer, transport, wire

Issue = Callable[[trustme.CA], trustme.LeafCert]


def server_of(issued: trustme.LeafCert) -> ssl.SSLContext:
    """A server's side, with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def test_a_server_that_is_trusted_is_called(trusted: trustme.CA) -> None:
    tls = server_of(trusted.issue_cert("localhost"))
    async with wire(answer, tls=tls) as server, transport() as calls:
        assert (await calls.call("POST", server.url, body=b"x")).text == "ok"


def _stranger(_: trustme.CA) -> trustme.LeafCert:
    return trustme.CA().issue_cert("localhost")


def _other_name(trusted: trustme.CA) -> trustme.LeafCert:
    return trusted.issue_cert("other.example.com")


def _past(trusted: trustme.CA) -> trustme.LeafCert:
    return trusted.issue_cert("localhost", not_after=datetime(2020, 1, 2, tzinfo=UTC))


BAD = pytest.mark.parametrize(
    ("issue", "what"),
    [
        (_stranger, "unable to get local issuer certificate"),
        (_other_name, "Hostname mismatch"),
        (_past, "certificate has expired"),
    ],
)


@BAD
async def test_a_certificate_that_is_not_good_ends_the_call_before_the_request(
    trusted: trustme.CA, issue: Issue, what: str
) -> None:
    tls = server_of(issue(trusted))
    async with wire(answer, tls=tls) as server, transport() as calls:
        with pytest.raises(NotSentError) as caught:
            await calls.call("POST", server.url, body=b"x")
        assert str(caught.value) == f"the server's certificate is not good: {what}"
        assert server.requests == []


@BAD
async def test_over_http2_too(trusted: trustme.CA, issue: Issue, what: str) -> None:
    tls = server_of(issue(trusted))
    async with wire(answer, tls=tls) as server:
        calls = Http2Transport(server.url, timeout_seconds=30)
        await calls.open()
        with pytest.raises(NotSentError) as caught:
            await calls.call("POST", server.url, body=b"x")
        await calls.close()
        assert str(caught.value) == f"the server's certificate is not good: {what}"
        assert server.requests == []
