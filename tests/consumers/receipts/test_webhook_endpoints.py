"""Every provider's webhook at the real endpoint: a genuine request counts once, no other counts.

`Webhook` says what each signature covers. The tests change whatever it covers, one thing at a time.
The answer must be 403, nothing may be recorded, and nothing may be published.
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
from consumers.receipts import webhooks as webhook_endpoint
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
    """The parsers of a process with every provider, whose time is NOW."""
    parsers = dict(parsers_with(tmp_path, COMMS_SIMULATOR_SECRET=SECRET.value, **ENVIRONMENT))
    # The certificates of SNS come from Amazon.
    parsers[Channel.SMS, "aws"] = await aws.primed()
    parsers[Channel.EMAIL, "ses"] = await ses.primed()
    return parsers


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
    opened = broker.producer()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def status_topic(broker: Broker) -> Iterator[Listener]:
    opened = Listener(broker)
    yield opened
    opened.close()


class Endpoint:
    """The endpoint, and what it recorded."""

    def __init__(self, client: httpx.AsyncClient, pool: AsyncConnectionPool) -> None:
        self._client = client
        self._pool = pool

    async def post(self, webhook: Webhook, post: Post) -> int:
        """Send a request; return the HTTP status. An error must have a problem body."""
        answer = await self._client.post(
            webhook.path + post.query, content=post.body, headers=encode_headers(post)
        )
        if answer.status_code >= 400:
            assert answer.json()["status"] == answer.status_code
        return int(answer.status_code)

    async def insert_sent(self, webhook: Webhook) -> UUID:
        """Insert a message that was sent by the provider."""
        message_id = new_message_id()
        async with self._pool.connection() as connection:
            await connection.execute(
                "INSERT INTO consumers.attempt VALUES (%s, 1, 'acme', %s, %s, %s, %s)",
                (message_id, webhook.channel, webhook.name, uuid4(), NOW),
            )
        return message_id

    async def count_rows(self) -> dict[str, int]:
        """Count the rows of every table that a receipt may write."""
        tables = ("consumers.receipt", "consumers.suppression", "audit.history", "audit.state")
        counts = {}
        async with self._pool.connection() as connection:
            for table in tables:
                query = psycopg.sql.SQL("SELECT count(*) FROM {}").format(
                    psycopg.sql.Identifier(*table.split("."))
                )
                row = await (await connection.execute(query)).fetchone()
                counts[table] = int(row[0]) if row else 0
        return counts


def encode_headers(post: Post) -> dict[bytes, bytes]:
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
        webhook_endpoint.router(
            pool=pool, producer=producer, codec=Codec(), parsers=parsers, public_url=PUBLIC_URL
        )
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


def count_of(webhook: Webhook, result: str) -> float:
    labels = {"channel": webhook.channel.value, "provider": webhook.name, "result": result}
    return REGISTRY.get_sample_value("comms_receipts_total", labels) or 0.0


@each
async def test_a_genuine_receipt_counts_once_however_often_it_comes(
    webhook: Webhook, endpoint: Endpoint, status_topic: Listener
) -> None:
    message_id = await endpoint.insert_sent(webhook)
    post = webhook.write(message_id, NOW)
    for _ in range(3):
        assert await endpoint.post(webhook, post) == 204
    assert (await endpoint.count_rows())["consumers.receipt"] == 1
    events: set[tuple[UUID, str]] = set()
    while not events:
        status_topic.listen()
        events = {(event.id, event.status) for event in status_topic.events[message_id]}
    assert [status for _, status in events] == ["delivered"]


def change_middle(text: str) -> str:
    """Return the text with another letter in its middle."""
    place = len(text) // 2
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def change_signature_in_body(post: Post, name: str) -> Post:
    """Change the signature inside a JSON body."""
    value = json.loads(post.body)
    inner = value["signature"] if isinstance(value.get("signature"), dict) else value
    inner[name] = change_middle(inner[name])
    return replace(post, body=json.dumps(value).encode())


def forgeries(webhook: Webhook, message_id: UUID, other: UUID) -> dict[str, Post]:
    """Change a genuine receipt in every way that the provider's signature covers."""
    good = webhook.write(message_id, NOW)
    forged = {"no proof": replace(good, headers={}) if webhook.proofs else Post(b"{}")}
    for name in webhook.proofs:
        forged[f"no {name}"] = good.with_header(name, None)
        value = next(v for n, v in good.headers.items() if n.lower() == name.lower())
        forged[f"another {name}"] = good.with_header(name, change_middle(value))
        forged[f"an empty {name}"] = good.with_header(name, "")
    if not webhook.proofs:
        name = "signature" if b'"token"' in good.body else "Signature"
        forged["another signature"] = change_signature_in_body(good, name)
    if webhook.covers_body:
        place = good.body.lower().index(b"completed" if b"completed" in good.body else b"deliver")
        changed = bytearray(good.body)
        changed[place] ^= 1
        forged["another body"] = replace(good, body=bytes(changed))
        forged["a longer body"] = replace(good, body=good.body + b"&x=1")
    if webhook.covers_time:
        for name, days in (("long ago", -2), ("in the future", 2)):
            forged[f"signed {name}"] = webhook.write(message_id, NOW + timedelta(days=days))
    if webhook.covers_url:
        forged["another address"] = replace(good, query=f"?m={other}")
        forged["more of an address"] = replace(good, query=f"{good.query}&x=1")
    for foreign in WEBHOOKS:
        if foreign.name != webhook.name:
            name = f"{foreign.channel} by {foreign.name}"
            forged[name] = foreign.write(message_id, NOW)
    return forged


@each
async def test_a_forged_request_is_forbidden_and_records_nothing(
    webhook: Webhook, endpoint: Endpoint, status_topic: Listener
) -> None:
    message_id, other = await endpoint.insert_sent(webhook), await endpoint.insert_sent(webhook)
    before, count_before = await endpoint.count_rows(), count_of(webhook, "forged")
    forged = forgeries(webhook, message_id, other)
    answers = {name: await endpoint.post(webhook, post) for name, post in forged.items()}
    assert answers == dict.fromkeys(forged, 403)
    assert await endpoint.count_rows() == before
    assert count_of(webhook, "forged") == count_before + len(forged)
    last = await endpoint.insert_sent(webhook)  # its event comes after theirs in the topic
    assert await endpoint.post(webhook, webhook.write(last, NOW)) == 204
    while not status_topic.events[last]:
        status_topic.listen()
    assert not status_topic.events[message_id]
    assert not status_topic.events[other]


async def test_a_mailgun_token_is_accepted_for_one_event(endpoint: Endpoint) -> None:
    """Its signature covers a time and a token, and not the body."""
    mailgun = next(webhook for webhook in WEBHOOKS if webhook.name == "mailgun")
    message_id = await endpoint.insert_sent(mailgun)
    good = mailgun.write(message_id, NOW)
    assert await endpoint.post(mailgun, good) == 204
    before = await endpoint.count_rows()
    stolen = replace(good, body=good.body.replace(b'"delivered"', b'"complained"'))
    assert stolen != good
    assert await endpoint.post(mailgun, stolen) == 403
    assert await endpoint.count_rows() == before


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
    "size": b"x" * (webhook_endpoint.MAX_BODY - 1),
    "too much": b"x" * (webhook_endpoint.MAX_BODY + 1),
}


@each
async def test_garbage_is_answered_and_records_nothing(
    webhook: Webhook, endpoint: Endpoint
) -> None:
    before = await endpoint.count_rows()
    good = webhook.write(await endpoint.insert_sent(webhook), NOW)
    for name, body in GARBAGE.items():
        for headers in ({}, good.headers):
            status = await endpoint.post(webhook, replace(good, body=body, headers=headers))
            is_signed = bool(headers) and not webhook.covers_body
            allowed = {400, 403, 204} if is_signed else {400, 403}  # 204: it has no receipt
            assert status in ({413} if name == "too much" else allowed), name
    for value in ("\x00", "ÿ" * 9, "9" * 5_000, "v1," * 999, "Bearer a.b.c", "Basic ÿ", "t=9,v1=0"):
        for name in webhook.proofs:
            answer = await endpoint.post(webhook, good.with_header(name, value))
            assert answer in {400, 403}, value
    assert await endpoint.count_rows() == before


@each
async def test_without_its_secret_a_provider_must_repeat(
    webhook: Webhook, pool: AsyncConnectionPool, producer: EventProducer, tmp_path: Path
) -> None:
    async with client_of(pool, producer, parsers_with(tmp_path)) as client:
        endpoint = Endpoint(client, pool)
        message_id = await endpoint.insert_sent(webhook)
        before = await endpoint.count_rows()
        status = await endpoint.post(webhook, webhook.write(message_id, NOW))
        # The simulated provider always has a secret, but another one.
        assert status == (403 if webhook.name == "simulated" else 503)
        assert await endpoint.count_rows() == before


@by_person
async def test_a_stop_text_counts_only_if_the_provider_signed_it(
    webhook: Webhook, endpoint: Endpoint, pool: AsyncConnectionPool
) -> None:
    await insert_message_to_person(pool, webhook)
    assert webhook.hears is not None
    before, post = await endpoint.count_rows(), webhook.hears("STOP")
    forged = [replace(post, body=post.body.replace(b"202555", b"202554"))]
    forged += [post.with_header(name, None) for name in webhook.proofs]
    for request in forged:
        assert await endpoint.post(webhook, request) == 403
    assert await endpoint.post(webhook, webhook.hears("Thank you")) == 204
    assert await endpoint.count_rows() == before
    for _ in range(2):
        assert await endpoint.post(webhook, post) == 204
    after = await endpoint.count_rows()
    assert after == before | {"consumers.suppression": 1}


async def insert_message_to_person(pool: AsyncConnectionPool, webhook: Webhook) -> None:
    """Insert a message that a tenant sent to the person through this provider."""
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
