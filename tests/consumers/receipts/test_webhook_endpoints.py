"""Every provider's webhook at the real endpoint: what is genuine counts once, nothing else counts.

`Webhook` says what each signature covers; whatever it covers is spoiled here, one thing at a time,
and the answer must be 403, with nothing recorded and nothing announced.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from psycopg_pool import AsyncConnectionPool

from comms.platform import problems
from comms.platform.database import create_pool
from comms.platform.kafka import Broker, EventProducer
from comms.platform.settings import load
from consumers.receipts import webhooks as receipts
from consumers.registry import receipt_parsers
from consumers.sdk.receipts import ReceiptParser
from schemas.codec import Codec
from schemas.ids import new_message_id
from schemas.vocabulary import Channel
from tests.consumers.contract.http_suite import PUBLIC_URL
from tests.consumers.contract.samples import SECRET
from tests.consumers.contract.webhooks import CONFIG, ENVIRONMENT, PERSON, WEBHOOKS, Post, Webhook
from tests.consumers.email import test_ses_events as ses
from tests.consumers.email.mails import NOW
from tests.consumers.harness import Listener
from tests.consumers.sms import test_aws_sms as aws

each = pytest.mark.parametrize("webhook", WEBHOOKS, ids=lambda w: f"{w.channel}-{w.name}")
by_person = pytest.mark.parametrize(
    "webhook", [w for w in WEBHOOKS if w.hears], ids=lambda w: w.name
)
Parsers = Mapping[tuple[Channel, str], ReceiptParser]


@pytest.fixture
async def parsers(tmp_path: Path) -> Parsers:
    """Those of a process with every provider, whose clock says NOW."""
    made = dict(parsers_with(tmp_path, COMMS_SIMULATOR_SECRET=SECRET.value, **ENVIRONMENT))
    # The certificates of SNS come from Amazon.
    made[Channel.SMS, "aws"] = await aws.primed()
    made[Channel.EMAIL, "ses"] = await ses.primed()
    return made


def parsers_with(tmp_path: Path, **environment: str) -> Parsers:
    config = tmp_path / "comms.toml"
    config.write_text(CONFIG)
    own = {"COMMS_CONFIG": str(config), "COMMS_DATA_DIR": str(tmp_path)}
    return receipt_parsers(load({**own, **environment}), lambda: NOW)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def producer(broker: Broker) -> Iterator[EventProducer]:
    one = broker.producer()
    yield one
    one.close()


@pytest.fixture(scope="module")
def heard(broker: Broker) -> Iterator[Listener]:
    one = Listener(broker)
    yield one
    one.close()


class Endpoint:
    """The endpoint, what it recorded, and whom it knows."""

    def __init__(self, client: httpx.AsyncClient, pool: AsyncConnectionPool) -> None:
        self._client, self._pool = client, pool

    async def post(self, webhook: Webhook, post: Post) -> int:
        """Ask it; the status of its answer, which is a problem where it is an error."""
        answer = await self._client.post(
            webhook.path + post.query, content=post.body, headers=encoded(post)
        )
        if answer.status_code >= 400:
            assert answer.json()["status"] == answer.status_code
        return int(answer.status_code)

    async def sent(self, webhook: Webhook) -> UUID:
        """A message that was sent by the provider."""
        ours = new_message_id()
        async with self._pool.connection() as connection:
            await connection.execute(
                "INSERT INTO consumers.attempt VALUES (%s, 1, 'acme', %s, %s, %s, %s)",
                (ours, webhook.channel, webhook.name, uuid4(), NOW),
            )
        return ours

    async def recorded(self) -> dict[str, int]:
        """How many rows there are of whatever a receipt can leave behind."""
        tables = ("consumers.receipt", "consumers.suppression", "audit.history", "audit.state")
        found = {}
        async with self._pool.connection() as connection:
            for table in tables:
                query = psycopg.sql.SQL("SELECT count(*) FROM {}").format(
                    psycopg.sql.Identifier(*table.split("."))
                )
                row = await (await connection.execute(query)).fetchone()
                found[table] = int(row[0]) if row else 0
        return found


def encoded(post: Post) -> dict[bytes, bytes]:
    return {n.encode(): value.encode("latin-1") for n, value in post.headers.items()}


@pytest.fixture
async def endpoint(
    pool: AsyncConnectionPool, producer: EventProducer, parsers: Parsers
) -> AsyncIterator[Endpoint]:
    async with client_of(pool, producer, parsers) as client:
        yield Endpoint(client, pool)


def client_of(
    pool: AsyncConnectionPool, producer: EventProducer, parsers: Parsers
) -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)
    app.include_router(
        receipts.router(
            pool=pool, producer=producer, codec=Codec(), parsers=parsers, public_url=PUBLIC_URL
        )
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


def counted(webhook: Webhook, result: str) -> float:
    labels = {"channel": webhook.channel.value, "provider": webhook.name, "result": result}
    return REGISTRY.get_sample_value("comms_receipts_total", labels) or 0.0


@each
async def test_a_genuine_receipt_counts_once_however_often_it_comes(
    webhook: Webhook, endpoint: Endpoint, heard: Listener
) -> None:
    ours = await endpoint.sent(webhook)
    post = webhook.write(ours, NOW)
    for _ in range(3):
        assert await endpoint.post(webhook, post) == 204
    assert (await endpoint.recorded())["consumers.receipt"] == 1
    announced: set[tuple[UUID, str]] = set()
    while not announced:
        heard.listen()
        announced = {(event.id, event.status) for event in heard.events[ours]}
    assert [status for _, status in announced] == ["delivered"]


def flipped(text: str) -> str:
    """The same with another letter in its middle."""
    place = len(text) // 2
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def signed_in_body(post: Post, name: str) -> Post:
    """The signature that stands in a body of JSON, spoiled."""
    value = json.loads(post.body)
    inner = value["signature"] if isinstance(value.get("signature"), dict) else value
    inner[name] = flipped(inner[name])
    return replace(post, body=json.dumps(value).encode())


def forgeries(webhook: Webhook, ours: UUID, other: UUID) -> dict[str, Post]:
    """A genuine receipt of one message, spoiled in every way that its provider's scheme proves."""
    good = webhook.write(ours, NOW)
    found = {"nothing that proves it": replace(good, headers={}) if webhook.proofs else Post(b"{}")}
    for name in webhook.proofs:
        found[f"no {name}"] = good.with_header(name, None)
        value = next(v for n, v in good.headers.items() if n.lower() == name.lower())
        found[f"another {name}"] = good.with_header(name, flipped(value))
        found[f"an empty {name}"] = good.with_header(name, "")
    if not webhook.proofs:
        name = "signature" if b'"token"' in good.body else "Signature"
        found["another signature"] = signed_in_body(good, name)
    if webhook.covers_body:
        place = good.body.lower().index(b"completed" if b"completed" in good.body else b"deliver")
        spoiled = bytearray(good.body)
        spoiled[place] ^= 1
        found["another body"] = replace(good, body=bytes(spoiled))
        found["a longer body"] = replace(good, body=good.body + b"&x=1")
    if webhook.covers_time:
        for name, days in (("long ago", -2), ("in the future", 2)):
            found[f"signed {name}"] = webhook.write(ours, NOW + timedelta(days=days))
    if webhook.covers_url:
        found["another address"] = replace(good, query=f"?m={other}")
        found["more of an address"] = replace(good, query=f"{good.query}&x=1")
    for foreign in WEBHOOKS:
        if foreign.name != webhook.name:
            name = f"{foreign.channel} by {foreign.name}"
            found[name] = foreign.write(ours, NOW)
    return found


@each
async def test_what_is_not_genuine_is_forbidden_and_leaves_no_trace(
    webhook: Webhook, endpoint: Endpoint, heard: Listener
) -> None:
    ours, other = await endpoint.sent(webhook), await endpoint.sent(webhook)
    before, forged = await endpoint.recorded(), counted(webhook, "forged")
    spoiled = forgeries(webhook, ours, other)
    answers = {name: await endpoint.post(webhook, post) for name, post in spoiled.items()}
    assert answers == dict.fromkeys(spoiled, 403)
    assert await endpoint.recorded() == before
    assert counted(webhook, "forged") == forged + len(spoiled)
    last = await endpoint.sent(webhook)  # what comes after it in the topic
    assert await endpoint.post(webhook, webhook.write(last, NOW)) == 204
    while not heard.events[last]:
        heard.listen()
    assert not heard.events[ours]
    assert not heard.events[other]


async def test_mailguns_token_is_good_for_one_event(endpoint: Endpoint) -> None:
    """It signs a time and a token, and not what it says."""
    mailgun = next(one for one in WEBHOOKS if one.name == "mailgun")
    ours = await endpoint.sent(mailgun)
    good = mailgun.write(ours, NOW)
    assert await endpoint.post(mailgun, good) == 204
    before = await endpoint.recorded()
    stolen = replace(good, body=good.body.replace(b'"delivered"', b'"complained"'))
    assert stolen != good
    assert await endpoint.post(mailgun, stolen) == 403
    assert await endpoint.recorded() == before


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00" * 50,
    "depth": b"[" * 200_000,
    "objects in objects": b'{"a":' * 100_000,
    "a number": b"9" * 5_000,
    "not a number": b'{"Type": NaN, "data": Infinity, "signature": NaN}',
    "null": b"null",
    "half": b'{"Type": "Notification", "TopicArn"',
    "other types": b'{"Type": [], "TopicArn": {}, "signature": 7, "event-data": "x", "data": 1}',
    "a lone surrogate": b'{"Type": "\\ud800", "signature": {"token": "\\ud800"}}',
    "size": b"x" * (receipts.MAX_BODY - 1),
    "too much": b"x" * (receipts.MAX_BODY + 1),
}


@each
async def test_whatever_comes_is_answered_and_leaves_no_trace(
    webhook: Webhook, endpoint: Endpoint
) -> None:
    before = await endpoint.recorded()
    good = webhook.write(await endpoint.sent(webhook), NOW)
    for name, body in GARBAGE.items():
        for headers in ({}, good.headers):
            status = await endpoint.post(webhook, replace(good, body=body, headers=headers))
            is_signed = bool(headers) and not webhook.covers_body
            allowed = {400, 403, 204} if is_signed else {400, 403}  # 204: it speaks of nothing
            assert status in ({413} if name == "too much" else allowed), name
    for value in ("\x00", "ÿ" * 9, "9" * 5_000, "v1," * 999, "Bearer a.b.c", "Basic ÿ", "t=9,v1=0"):
        for name in webhook.proofs:
            answer = await endpoint.post(webhook, good.with_header(name, value))
            assert answer in {400, 403}, value
    assert await endpoint.recorded() == before


@each
async def test_without_its_secret_a_provider_is_to_say_it_again(
    webhook: Webhook, pool: AsyncConnectionPool, producer: EventProducer, tmp_path: Path
) -> None:
    async with client_of(pool, producer, parsers_with(tmp_path)) as client:
        endpoint = Endpoint(client, pool)
        ours = await endpoint.sent(webhook)
        before = await endpoint.recorded()
        status = await endpoint.post(webhook, webhook.write(ours, NOW))
        # The simulated provider has a secret always, and this is not it; a topic needs none.
        assert status == (403 if webhook.name == "simulated" else 503)
        assert await endpoint.recorded() == before


@by_person
async def test_a_person_who_writes_stop_is_heard_if_the_provider_says_so(
    webhook: Webhook, endpoint: Endpoint, pool: AsyncConnectionPool
) -> None:
    await wrote_to(pool, webhook)
    assert webhook.hears is not None
    before, post = await endpoint.recorded(), webhook.hears("STOP")
    spoiled = [replace(post, body=post.body.replace(b"202555", b"202554"))]
    spoiled += [post.with_header(name, None) for name in webhook.proofs]
    for forged in spoiled:
        assert await endpoint.post(webhook, forged) == 403
    assert await endpoint.post(webhook, webhook.hears("Thank you")) == 204
    assert await endpoint.recorded() == before
    for _ in range(2):
        assert await endpoint.post(webhook, post) == 204
    after = await endpoint.recorded()
    assert after == before | {"consumers.suppression": 1}


async def wrote_to(pool: AsyncConnectionPool, webhook: Webhook) -> None:
    """A tenant has written to the person by this provider."""
    now = datetime.now(UTC)
    values: tuple[Any, ...] = (new_message_id(), webhook.channel, webhook.name, PERSON, now, now)
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO audit.state (message_id, tenant, channel, status, reason, attempts,"
            " provider, recipient, created_at, updated_at, metadata)"
            " VALUES (%s, 'acme', %s, 'sent', 'accepted', 1, %s, %s, %s, %s, '{}')",
            values,
        )
        await connection.execute(
            "INSERT INTO audit.evidence (tenant, channel, provider) VALUES ('acme', %s, %s)",
            (webhook.channel, webhook.name),
        )
