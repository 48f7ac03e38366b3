"""Notifications by APNs: the contract over HTTP/2, requests, tokens, and servers that go."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from comms.platform.settings import SettingsError
from consumers.push.apns import ProviderToken
from consumers.push.http2 import Http2Transport
from consumers.sdk.http_transport import NotSentError
from consumers.sdk.outcomes import Refused
from schemas.messages import PushMessage
from schemas.vocabulary import Channel, Platform, Priority
from tests.consumers.contract.http_suite import NO_RESPONSE, Dialogue, HttpContract, Reply, describe
from tests.consumers.contract.samples import (
    closed_port,
    message,
    only_provider,
    settings_with,
    until,
)
from tests.consumers.contract.suite import Fate, Subject, call
from tests.consumers.push.http2_stub import (
    GONE_AFTER,
    GONE_BEFORE,
    GONE_SILENT,
    REFUSED_STREAM,
    RESET,
    Http2Stub,
)

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
TABLE = {"name": "apns", "key_id": "ABC123DEFG", "team_id": "TEAM123456", "topic": "com.acme.app"}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def error(status: int, reason: str, **more: int) -> Reply:
    """An error as APNs writes it."""
    return Reply(status, json.dumps({"reason": reason, **more}), {"apns-id": "theirs"})


def push(*tokens: str, **more: Any) -> PushMessage:
    made = message(Channel.PUSH, "one")
    assert isinstance(made, PushMessage)
    return replace(made, tokens=tokens, **more)


GONE = error(410, "Unregistered", timestamp=1_790_000_000_000)


class TestApns(HttpContract):
    dialogue = Dialogue(
        channel=Channel.PUSH,
        table=TABLE,
        environment={"APNS_KEY": PEM},
        accepted=lambda n: Reply(200, "", {"apns-id": f"id-{n}"}),
        refused=GONE,
        transient=error(503, "ServiceUnavailable"),
        errors={
            "gone": (GONE, "refused invalid_recipient hard_bounce"),
            "expired": (error(410, "ExpiredToken"), "refused invalid_recipient hard_bounce"),
            "no token": (error(400, "BadDeviceToken"), "refused invalid_recipient"),
            "another app's": (error(400, "DeviceTokenNotForTopic"), "refused invalid_recipient"),
            "too big": (error(413, "PayloadTooLarge"), "refused invalid_content"),
            "a bad key": (error(403, "InvalidProviderToken"), "blocked"),
            "too old": (error(403, "ExpiredProviderToken"), "blocked"),
            "the other environment's key": (error(403, "BadEnvironmentKeyIdInToken"), "blocked"),
            "our topic": (error(400, "TopicDisallowed"), "blocked"),
            "too many": (error(429, "TooManyRequests"), "later rate_limited"),
            "too many tokens": (
                error(429, "TooManyProviderTokenUpdates"),
                "later rate_limited 1200",
            ),
            "in trouble": (error(500, "InternalServerError"), "later provider_error 900"),
            "shutting down": (error(503, "Shutdown"), "later provider_error"),
            "a reason of tomorrow": (error(400, "NewReason"), "refused rejected"),
            "refused unseen": (REFUSED_STREAM, "later provider_error"),
            "reset": (RESET, "ambiguous"),
            "going away, not looked at": (GONE_BEFORE, "later provider_error"),
            "going away, answered": (GONE_AFTER, "accepted"),
            "going away, not answered": (GONE_SILENT, "ambiguous"),
        },
        needs="APNS_KEY",
        recipient=lambda n: f"{n:064x}",
    )

    @pytest.fixture
    async def stub(self) -> AsyncIterator[Http2Stub]:
        made = Http2Stub(self.dialogue)
        await made.start()
        yield made
        await made.stop()

    async def test_a_probe_tells_a_reachable_server_from_one_that_is_not(
        self, subject: Subject
    ) -> None:
        """Apple has nothing to ask that does not notify, or count as an error of ours."""
        assert await subject.provider.probe() is None
        assert await subject.unreachable.probe() is None

    async def test_it_works_on_after_a_cancelled_call(self, subject: Subject) -> None:
        """They share a connection, so it is not connections that are counted."""
        silent = subject.message(Fate.NO_RESPONSE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await call(subject.provider, silent)
        assert describe(await call(subject.provider, subject.message(Fate.ACCEPTED))) == "accepted"

    async def test_the_request_is_apples(self, subject: Subject, stub: Http2Stub) -> None:
        made = push("ab12", ttl=60, badge=2, collapse_key="match-7", data={"screen": "inbox"})
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/3/device/ab12")
        wanted = {
            "apns-topic": "com.acme.app",
            "apns-push-type": "alert",
            "apns-priority": "10",
            "apns-collapse-id": "match-7",
        }
        assert {name: asked.headers[name] for name in wanted} == wanted
        ends = int(asked.headers["apns-expiration"])
        assert abs(ends - datetime.now(UTC).timestamp() - 60) < 30
        assert json.loads(asked.body) == {
            "aps": {
                "alert": {"title": made.title, "body": made.body},
                "sound": "default",
                "badge": 2,
            },
            "screen": "inbox",
        }
        token = asked.headers["authorization"].removeprefix("bearer ")
        claims = jwt.decode(token, KEY.public_key(), algorithms=["ES256"])
        assert claims["iss"] == "TEAM123456"
        assert jwt.get_unverified_header(token)["kid"] == "ABC123DEFG"

    async def test_now_or_never_and_without_haste(self, subject: Subject, stub: Http2Stub) -> None:
        await call(subject.provider, push("ab12", ttl=0, priority=Priority.BULK))
        headers = stub.requests[-1].headers
        assert (headers["apns-expiration"], headers["apns-priority"]) == ("0", "5")

    async def test_each_device_has_an_id_that_a_repetition_has_too(
        self, subject: Subject, stub: Http2Stub
    ) -> None:
        made = push("ab12", "cd34")
        for _ in range(2):
            await call(subject.provider, made)
        assert len({asked.headers["apns-id"] for asked in stub.requests}) == 2

    async def test_a_device_that_is_gone_is_told_since_when(
        self, subject: Subject, stub: Http2Stub
    ) -> None:
        outcome = await call(subject.provider, stub.message(GONE))
        assert isinstance(outcome, Refused)
        assert outcome.response.detail == "gone since 2026-09-21T14:13:20+00:00"

    @pytest.mark.parametrize(
        "made",
        [
            push("ab12", platform=Platform.FCM),
            push("ab12", data={"aps": "x"}),
            push("ab12", body="x" * 4096),
        ],
        ids=["another platform", "a key of Apple's", "too big"],
    )
    async def test_what_is_not_for_it_is_refused_without_a_call(
        self, subject: Subject, stub: Http2Stub, made: PushMessage
    ) -> None:
        assert describe(await call(subject.provider, made)) == "refused invalid_content"
        assert stub.requests == []

    async def test_many_devices_share_a_connection(self, subject: Subject, stub: Http2Stub) -> None:
        outcome = await call(subject.provider, push(*(f"{n:064x}" for n in range(1000, 1500))))
        assert stub.connections == 1
        assert len(stub.requests) == 500
        assert outcome.response.detail == "500 of 500 devices accepted, 0 are gone"

    async def test_a_connection_that_went_is_replaced(
        self, subject: Subject, stub: Http2Stub
    ) -> None:
        assert describe(await call(subject.provider, stub.message(GONE_AFTER))) == "accepted"
        assert describe(await call(subject.provider, stub.message(None))) == "accepted"
        assert stub.connections == 2

    async def test_only_calls_above_the_last_one_named_are_known_not_to_be_carried_out(
        self, subject: Subject, stub: Http2Stub
    ) -> None:
        """On one connection: a call in flight, then one that the server does not look at."""
        silent = asyncio.create_task(call(subject.hasty, stub.message(NO_RESPONSE)))
        await until(lambda: len(stub.requests) == 1)
        assert (
            describe(await call(subject.hasty, stub.message(GONE_BEFORE))) == "later provider_error"
        )
        assert describe(await silent) == "ambiguous"
        assert stub.connections == 1


async def test_no_more_calls_at_once_than_the_server_takes() -> None:
    stub = Http2Stub(TestApns.dialogue, at_once=1)
    await stub.start()
    transport = Http2Transport(stub.url, timeout_seconds=30)
    await transport.open()
    calls = [transport.call("POST", f"{stub.url}/{n}", body=b"x" * 4096) for n in range(40)]
    answers = await asyncio.gather(*calls)
    await transport.close()
    await stub.stop()
    assert {answer.status for answer in answers} == {200}
    assert (stub.connections, stub.most_at_once) == (1, 1)


async def test_over_tls_it_is_http2(trusted: trustme.CA) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusted.issue_cert("localhost").configure_cert(tls)
    tls.set_alpn_protocols(["h2"])
    stub = Http2Stub(TestApns.dialogue, tls=tls)
    await stub.start()
    url = f"https://localhost:{stub.port}"
    transport = Http2Transport(url, timeout_seconds=30)
    await transport.open()
    answer = await transport.call("POST", f"{url}/3/device/ab12", body=b"{}")
    await transport.close()
    await stub.stop()
    assert (answer.status, len(stub.requests)) == (200, 1)


async def test_a_server_that_speaks_something_else_was_sent_nothing() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = Http2Transport(url, timeout_seconds=10)
    await transport.open()
    with pytest.raises(NotSentError):
        await transport.call("POST", f"{url}/x", body=b"x")
    await transport.close()
    server.close()


async def test_a_transport_that_is_closed_sends_nothing() -> None:
    transport = Http2Transport(f"http://127.0.0.1:{closed_port()}", timeout_seconds=1)
    with pytest.raises(NotSentError):
        await transport.call("POST", "http://127.0.0.1/x")


def test_a_token_is_kept_for_50_minutes_and_for_20_at_least() -> None:
    now = [NOW]
    token = ProviderToken(KEY, key_id="k", team_id="t", clock=lambda: now[0])
    first = token.header()
    now[0] = NOW + timedelta(minutes=19)
    token.refused()
    assert token.header() == first
    now[0] = NOW + timedelta(minutes=49)
    assert token.header() == first
    now[0] = NOW + timedelta(minutes=50)
    second = token.header()
    assert second != first
    now[0] += timedelta(minutes=20)
    token.refused()
    assert token.header() != second


def test_a_key_may_stand_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "AuthKey.p8"
    path.write_text(PEM)
    environment = {"APNS_KEY": str(path)}
    assert only_provider(settings_with(Channel.PUSH, TABLE, environment=environment), Channel.PUSH)


@pytest.mark.parametrize("given", ["/no/such/file", "-----BEGIN PRIVATE KEY-----"])
def test_what_is_no_key_is_refused_without_showing_it(given: str) -> None:
    settings = settings_with(Channel.PUSH, TABLE, environment={"APNS_KEY": given})
    with pytest.raises(SettingsError, match="key_env") as caught:
        only_provider(settings, Channel.PUSH)
    assert given not in str(caught.value)
