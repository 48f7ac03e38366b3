"""Notifications to browsers: the contract, encryption, VAPID, and where no message may lead."""

import asyncio
import base64
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from comms.platform.settings import SettingsError
from consumers.push.encryption import Vapid, encrypted, read_key, text_of
from consumers.push.outward import is_public
from consumers.sdk.http_transport import HttpTransport, OffLimitsError
from consumers.sdk.provider import Provider
from schemas.messages import PushMessage, WebPushSubscription
from schemas.payloads import WEBPUSH_LIMIT
from schemas.vocabulary import Channel, Platform, Priority
from tests.consumers.contract.http_suite import Dialogue, HttpContract, Reply, Stub, describe
from tests.consumers.contract.samples import message, only_provider, settings_with
from tests.consumers.contract.suite import Subject, call

CURVE = ec.SECP256R1()
OURS = ec.generate_private_key(CURVE)
OURS_TEXT = text_of(OURS.private_numbers().private_value.to_bytes(32, "big"))
BROWSER, AUTH = ec.generate_private_key(CURVE), os.urandom(16)
P256DH = text_of(BROWSER.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
ORIGIN = "https://push.example.net"
TABLE = {"name": "webpush", "subject": "mailto:push@example.com"}
ENVIRONMENT = {"VAPID_PRIVATE_KEY": OURS_TEXT}


def subscription(endpoint: str) -> WebPushSubscription:
    return WebPushSubscription(endpoint=endpoint, p256dh=P256DH, auth=text_of(AUTH))


def push(endpoint: str = f"{ORIGIN}/wp/one", **more: Any) -> PushMessage:
    made = message(Channel.PUSH, "one")
    assert isinstance(made, PushMessage)
    return replace(made, tokens=(), subscription=subscription(endpoint), **more)


def read_by_the_browser(body: bytes) -> Any:
    """A body, decrypted by another implementation of the standard."""
    text = http_ece.decrypt(body, private_key=BROWSER, auth_secret=AUTH, version="aes128gcm")
    return json.loads(text)


class TestWebPush(HttpContract):
    dialogue = Dialogue(
        channel=Channel.PUSH,
        table=TABLE,
        environment=ENVIRONMENT,
        accepted=lambda n: Reply(201, "", {"Location": f"{ORIGIN}/message/{n}"}),
        refused=Reply(410, '{"code":410,"errno":103}'),
        transient=Reply(503, "later"),
        errors={
            "gone": (Reply(410), "refused invalid_recipient hard_bounce"),
            "unknown": (Reply(404), "refused invalid_recipient hard_bounce"),
            "another's key": (Reply(403), "refused invalid_recipient"),
            "too big": (Reply(413), "refused invalid_content"),
            "a bad request": (Reply(400), "refused rejected"),
            "too fast": (Reply(429, "", {"Retry-After": "60"}), "later rate_limited 60"),
            "too fast, as Windows says it": (Reply(406), "later rate_limited"),
            "overloaded": (Reply(503), "later provider_error"),
        },
        needs="VAPID_PRIVATE_KEY",
        make=lambda to: push(f"{ORIGIN}/wp/{to}"),
        recipient=lambda n: f"subscription-{n:04}",
    )

    async def test_a_probe_tells_a_reachable_server_from_one_that_is_not(
        self, subject: Subject
    ) -> None:
        """There is no one server: only a message says who is called."""
        assert await subject.provider.probe() is None
        assert await subject.unreachable.probe() is None

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (302, "later provider_error"),
            (500, "later provider_error"),
            (401, "refused invalid_recipient"),  # whoever a message names cannot stop the provider
        ],
    )
    async def test_an_answer_without_a_word_is_judged_by_its_status(
        self, subject: Subject, stub: Stub, status: int, expected: str
    ) -> None:
        reply = Reply(status, "<html>", {"Location": stub.url} if status == 302 else {})
        assert describe(await call(subject.provider, stub.message(reply))) == expected
        assert len(stub.requests) == 1

    async def test_the_request_is_one_a_browser_can_read(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = push(
            f"{ORIGIN}/wp/one?v=2",
            priority=Priority.HIGH,
            ttl=60,
            collapse_key="match-7",
            data={"url": "/inbox"},
            badge=2,
        )
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path, asked.query) == ("POST", "/wp/one", "v=2")
        wanted = {"Content-Encoding": "aes128gcm", "TTL": "60", "Urgency": "high"}
        assert {name: asked.headers[name] for name in wanted} == wanted
        assert asked.headers["Topic"] == "match-7"
        assert read_by_the_browser(asked.body) == {
            "title": made.title,
            "body": made.body,
            "data": {"url": "/inbox"},
            "badge": 2,
        }

    async def test_it_is_signed_for_the_service_of_the_endpoint(
        self, subject: Subject, stub: Stub
    ) -> None:
        await call(subject.provider, push())
        scheme, _, value = stub.requests[-1].headers["Authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in value.split(","))
        public = base64.urlsafe_b64decode(parts["k"] + "=")
        key = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, public)
        claims = jwt.decode(parts["t"], key, algorithms=["ES256"], audience=ORIGIN)
        assert (scheme, claims["sub"]) == ("vapid", "mailto:push@example.com")
        assert claims["exp"] <= datetime.now(UTC).timestamp() + 24 * 3600

    async def test_a_topic_has_32_letters_of_the_alphabet(
        self, subject: Subject, stub: Stub
    ) -> None:
        for key in ("a key with spaces", "another key with spaces", "x" * 33):
            await call(subject.provider, push(collapse_key=key))
        topics = [asked.headers["Topic"] for asked in stub.requests]
        assert len(set(topics)) == 3
        assert all(len(topic) == 32 and topic.isascii() and " " not in topic for topic in topics)

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (push(platform=Platform.FCM), "refused invalid_content"),
            (replace(push(), subscription=None, tokens=("one",)), "refused invalid_content"),
            (push(data={"k": "v" * WEBPUSH_LIMIT}), "refused invalid_content"),
            (push("http://push.example.net/wp/one"), "refused invalid_recipient"),
            (push("https://user@push.example.net/wp/one"), "refused invalid_recipient"),
            (
                replace(
                    push(),
                    subscription=WebPushSubscription(
                        endpoint=f"{ORIGIN}/wp/one", p256dh="BAAA", auth=text_of(AUTH)
                    ),
                ),
                "refused invalid_recipient",
            ),
            (
                replace(
                    push(),
                    subscription=WebPushSubscription(
                        endpoint=f"{ORIGIN}/wp/one", p256dh=P256DH, auth="AAAA"
                    ),
                ),
                "refused invalid_recipient",
            ),
        ],
        ids=["another platform", "tokens", "too big", "http", "a user", "no point", "no secret"],
    )
    async def test_what_is_not_for_it_is_refused_without_a_call(
        self, subject: Subject, stub: Stub, made: PushMessage, expected: str
    ) -> None:
        assert describe(await call(subject.provider, made)) == expected
        assert stub.requests == []

    async def test_what_just_fits_is_sent(self, subject: Subject, stub: Stub) -> None:
        empty = len(json.dumps({"title": "Hello", "body": ""}, separators=(",", ":")))
        made = push(body="x" * (WEBPUSH_LIMIT - empty))
        assert describe(await call(subject.provider, made)) == "accepted"
        assert len(stub.requests[-1].body) == 4096


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:7f00:1]"])
async def test_no_message_leads_to_this_machine(host: str) -> None:
    """By number or by name: a server that listens there is not connected to."""
    touched = asyncio.Event()
    server = await asyncio.start_server(lambda *_: touched.set(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider: Provider[Any] = only_provider(
        settings_with(Channel.PUSH, TABLE, environment=ENVIRONMENT), Channel.PUSH
    )
    await provider.open()
    outcome = await call(provider, push(f"https://{host}:{port}/wp"))
    await provider.close()
    server.close()
    assert describe(outcome) == "refused invalid_recipient"
    assert "not one that may be reached" in (outcome.response.detail or "")
    assert not touched.is_set()


async def test_the_same_address_is_reached_where_it_is_allowed() -> None:
    stub = Stub(TestWebPush.dialogue)
    await stub.start()
    asked: list[str] = []

    def allowed(address: str) -> bool:
        asked.append(address)
        return len(asked) > 1

    transport = HttpTransport(timeout_seconds=10, connections=1, may_reach=allowed)
    await transport.open()
    with pytest.raises(OffLimitsError):
        await transport.call("GET", stub.url)
    answer = await transport.call("GET", stub.url)
    await transport.close()
    await stub.stop()
    assert (answer.status, asked) == (200, ["127.0.0.1"] * 2)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff0e::1", False),
        ("::ffff:10.0.0.1", False),
        ("::7f00:1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:1::1", False),
        ("localhost", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_the_published_example() -> None:
    """RFC 8291, section 5."""
    key = read_key("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
    salt = base64.urlsafe_b64decode("DGv6ra1nlYgDCS1FRnbzlw==")
    body = encrypted(
        b"When I grow up, I want to be a watermelon",
        p256dh="BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        auth="BTBZMqHH6r4Tts7J_aSIgg",
        new_key=lambda: key,
        new_salt=lambda length: salt[:length],
    )
    assert text_of(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS"
        "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qu"
        "lcy4a-fN"
    )


def test_no_two_messages_share_a_key() -> None:
    bodies = {encrypted(b"x", p256dh=P256DH, auth=text_of(AUTH))[:86] for _ in range(3)}
    assert len(bodies) == 3


def test_a_signature_is_kept_for_its_service_and_renewed_before_its_end() -> None:
    now = [datetime(2026, 11, 23, 12, 0, tzinfo=UTC)]
    vapid = Vapid(OURS, "mailto:a@example.com", clock=lambda: now[0])
    first, other = vapid.header("https://a.example"), vapid.header("https://b.example")
    assert first != other
    now[0] += timedelta(hours=10)
    assert vapid.header("https://a.example") == first
    now[0] += timedelta(hours=1, seconds=1)
    assert vapid.header("https://a.example") != first


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_may_be_pem(form: PrivateFormat) -> None:
    pem = OURS.private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    assert read_key(pem).private_numbers() == read_key(OURS_TEXT).private_numbers()


@pytest.mark.parametrize("given", ["AAAA", "-----BEGIN", "ä"])
def test_what_is_no_key_is_refused_without_showing_it(given: str) -> None:
    settings = settings_with(Channel.PUSH, TABLE, environment={"VAPID_PRIVATE_KEY": given})
    with pytest.raises(SettingsError, match="vapid_private_key_env") as caught:
        only_provider(settings, Channel.PUSH)
    assert given not in str(caught.value)


def test_a_subject_is_an_address() -> None:
    table = TABLE | {"subject": "push@example.com"}
    settings = settings_with(Channel.PUSH, table, environment=ENVIRONMENT)
    with pytest.raises(SettingsError, match="subject"):
        only_provider(settings, Channel.PUSH)
