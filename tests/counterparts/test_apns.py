"""The APNs adapter, and our HTTP/2, against a server on node's: what it refuses, and how it goes.

node checks our token's signature and what Apple's documentation wants of each header. Its frames
are not those of the library that we use on both ends elsewhere.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from comms.stack.errors import EngineError
from consumers.sdk.outcomes import Accepted, Refused
from consumers.sdk.provider import Provider
from schemas.messages import PushMessage
from schemas.vocabulary import Channel
from tests.consumers.contract.http_suite import describe
from tests.consumers.contract.samples import message, only_provider, settings_with, until
from tests.consumers.contract.suite import call
from tests.counterparts.apple import Apple, Files

pytestmark = pytest.mark.node

TOPIC = "com.acme.app"
KEY = ec.generate_private_key(ec.SECP256R1())
TABLE = {"name": "apns", "key_id": "ABC123DEFG", "team_id": "TEAM123456", "topic": TOPIC}


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    """A key as Apple gives it out."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


PEM = pem_of(KEY)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder, made = tmp_path_factory.mktemp("tls"), authority.issue_cert("localhost")
    found = Files(key=folder / "key", cert=folder / "cert", public=folder / "public")
    made.private_key_pem.write_to_path(found.key)
    made.cert_chain_pems[0].write_to_path(found.cert)
    written = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    found.public.write_bytes(written)
    return found


@pytest.fixture(scope="module")
def apple(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apple]:
    """One server for all, since each test looks at tokens, and connections, of its own."""
    try:
        made = Apple(files, tmp_path_factory.mktemp("apns"), topic=TOPIC, at_once=10)
        made.start()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@asynccontextmanager
async def opened(
    apple: Apple, *, seconds: float = 20, key: str = PEM, **more: str
) -> AsyncIterator[Provider[Any]]:
    """An adapter of its own: its first call makes a connection."""
    table = {**TABLE, "base_url": apple.url, **more}
    settings = settings_with(
        Channel.PUSH, table, environment={"APNS_KEY": key}, timeout_seconds=seconds
    )
    provider = only_provider(settings, Channel.PUSH)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


def push(*tokens: str, **more: Any) -> PushMessage:
    made = message(Channel.PUSH, "one")
    assert isinstance(made, PushMessage)
    return replace(made, tokens=tokens, **more)


async def test_a_notification_with_everything_is_taken(apple: Apple) -> None:
    made = push("taken1", ttl=60, badge=2, collapse_key="k" * 64, data={"screen": "Grüße 🐟"})
    async with opened(apple) as provider:
        outcome = await call(provider, made)
    assert isinstance(outcome, Accepted), outcome
    assert outcome.response.provider_message_id


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("taken", "accepted"),
        ("ping", "accepted"),
        ("warns", "accepted"),
        ("gone", "refused invalid_recipient hard_bounce"),
        ("bad", "refused invalid_recipient"),
        ("empty", "refused invalid_recipient"),
        ("many", "later rate_limited"),
        ("busy", "later provider_error 900"),
        ("unseen", "later provider_error"),
        ("reset", "ambiguous"),
        ("drops", "ambiguous"),
        ("ends", "ambiguous"),
        ("leaves", "later provider_error"),
    ],
)
async def test_what_becomes_of_a_notification_and_of_the_next(
    apple: Apple, word: str, expected: str
) -> None:
    async with opened(apple) as provider:
        assert describe(await call(provider, push("taken1"))) == "accepted"
        assert describe(await call(provider, push(f"{word}1"))) == expected
        assert describe(await call(provider, push("taken2"))) == "accepted"


async def test_a_device_that_is_gone_is_told_since_when(apple: Apple) -> None:
    async with opened(apple) as provider:
        outcome = await call(provider, push("gone1"))
    assert isinstance(outcome, Refused)
    assert outcome.response.detail == "gone since 2026-09-21T14:13:20+00:00"


async def test_another_key_or_topic_is_the_accounts_fault(apple: Apple) -> None:
    async with opened(apple, topic="com.acme.other") as provider:
        assert describe(await call(provider, push("taken1"))) == "blocked"
    other = ec.generate_private_key(ec.SECP256R1())
    async with opened(apple, key=pem_of(other)) as provider:
        outcome = await call(provider, push("taken1"))
    assert (describe(outcome), outcome.response.code) == ("blocked", "InvalidProviderToken")


async def test_silence_is_ambiguous_and_costs_only_its_own_call(apple: Apple) -> None:
    async with opened(apple, seconds=1) as provider:
        assert describe(await call(provider, push("silent1"))) == "ambiguous"
        assert describe(await call(provider, push("taken1"))) == "accepted"


async def test_a_server_that_goes_away_answers_what_it_has_looked_at(apple: Apple) -> None:
    """Ten calls on one connection: nine that wait, then the one that it does not look at."""
    before, waiting = apple.sessions, [f"late{n}" for n in range(9)]
    async with opened(apple) as provider:
        assert describe(await call(provider, push("taken0"))) == "accepted"
        asked = len(apple.asked)
        calls = [asyncio.create_task(call(provider, push(token))) for token in waiting]
        await until(lambda: len(apple.asked) == asked + 9)
        last = await call(provider, push("leaves1"))
        outcomes = await asyncio.gather(*calls)
        assert describe(last) == "later provider_error"
        assert {describe(outcome) for outcome in outcomes} == {"accepted"}
        assert apple.sessions == before + 1
        assert describe(await call(provider, push("taken1"))) == "accepted"
        assert apple.sessions == before + 2


async def test_many_devices_share_a_connection_that_takes_one_at_first_and_ten_then(
    apple: Apple,
) -> None:
    before = apple.sessions
    tokens = [f"taken{n}" for n in range(300)]
    async with opened(apple) as provider:
        outcome = await call(provider, push(*tokens))
    assert outcome.response.detail == "300 of 300 devices accepted, 0 are gone"
    assert apple.sessions == before + 1
    assert apple.most_open == 10


async def test_a_large_notification_fits_and_one_that_is_larger_is_not_sent(apple: Apple) -> None:
    around = '{"aps":{"alert":{"title":"Hello","body":""},"sound":"default"}}'
    fits = push("taken1", body="x" * (4096 - len(around)))
    async with opened(apple) as provider:
        assert describe(await call(provider, fits)) == "accepted"
        larger = replace(fits, body=f"{fits.body}x")
        assert describe(await call(provider, larger)) == "refused invalid_content"
