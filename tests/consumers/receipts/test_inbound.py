"""Texts that people write, and receipts with only the provider's id, with a real database."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import create_pool
from consumers.receipts.inbound import FIND_BY_PROVIDER_ID, AttemptLookup
from consumers.receipts.stopwords import is_stop
from consumers.sdk.receipts import Inbound, Receipt, UnmatchedReceipt
from schemas.events import ProviderResponse
from schemas.ids import new_message_id
from schemas.vocabulary import Channel

PERSON, OTHER = "+12025550142", "+12025550143"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=3, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (word, True)
            for word in ("STOP", " stop. ", "Stop all", "ARRÊT", "Unsubscribe!", "СТОП")
        ),
        *((word, True) for word in ("End", "QUIT", "cancel", "STOPALL", "退订")),
        *((word, False) for word in ("", "I cannot stop laughing", "START", "Stopp mal", "all")),
    ],
)
def test_a_text_that_is_a_stop_word_is_an_opt_out(text: str, expected: bool) -> None:
    assert is_stop(text) is expected


async def insert_sent(
    pool: AsyncConnectionPool, tenant: str, to: str, *, provider: str = "twilio", days: int = 0
) -> UUID:
    """Insert a message that the audit service has recorded as sent so many days ago."""
    message_id, at = new_message_id(), datetime.now(UTC) - timedelta(days=days)
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO audit.state (message_id, tenant, channel, status, reason, attempts,"
            " provider, recipient, created_at, updated_at, metadata)"
            " VALUES (%s, %s, 'sms', 'sent', 'accepted', 1, %s, %s, %s, %s, '{}')",
            (message_id, tenant, provider, to, at, at),
        )
        await connection.execute(
            "INSERT INTO audit.evidence (tenant, channel, provider) VALUES (%s, 'sms', %s)"
            " ON CONFLICT DO NOTHING",
            (tenant, provider),
        )
    return message_id


async def suppressions(pool: AsyncConnectionPool) -> set[tuple[str, str, str]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT tenant, recipient, reason FROM consumers.suppression"
        )
        return {(tenant, to, reason) for tenant, to, reason in await cursor.fetchall()}


async def test_stop_applies_to_every_tenant_that_wrote_recently_through_the_provider(
    pool: AsyncConnectionPool,
) -> None:
    await insert_sent(pool, "acme", PERSON)
    await insert_sent(pool, "zeta", PERSON, days=29)
    await insert_sent(pool, "late", PERSON, days=31)
    await insert_sent(pool, "elsewhere", PERSON, provider="vonage")
    await insert_sent(pool, "others", OTHER)
    lookup = AttemptLookup(pool)
    for text in ("Thank you", "STOP", "STOP"):
        inbound = Inbound(from_=PERSON, to="+15005550006", text=text)
        assert await lookup.match(Channel.SMS, "twilio", [inbound]) == []
    assert await suppressions(pool) == {("acme", PERSON, "opt_out"), ("zeta", PERSON, "opt_out")}


async def test_a_receipt_with_only_the_providers_id_finds_its_message(
    pool: AsyncConnectionPool,
) -> None:
    message_id = new_message_id()
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO consumers.attempt"
            " (message_id, attempt, tenant, channel, provider, owner, claimed_at)"
            " VALUES (%s, 1, 'acme', 'sms', 'twilio', %s, now())",
            (message_id, uuid4()),
        )
        await connection.execute(
            "INSERT INTO consumers.outcome"
            " (message_id, attempt, status, reason, provider_message_id, occurred_at)"
            " VALUES (%s, 1, 'sent', 'accepted', 'SM1', now())",
            (message_id,),
        )
    receipts = [
        UnmatchedReceipt(
            delivered=True,
            occurred_at=datetime.now(UTC),
            response=ProviderResponse(provider_message_id=provider_id),
        )
        for provider_id in ("SM1", "SM2")
    ]
    lookup = AttemptLookup(pool)
    matched = await lookup.match(Channel.SMS, "twilio", receipts)
    assert [(type(receipt), receipt.message_id) for receipt in matched] == [(Receipt, message_id)]
    assert await lookup.match(Channel.SMS, "vonage", receipts) == []


_TEN_THOUSAND = """
WITH ids AS (
    SELECT n, (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0')
               || lpad(to_hex(n), 20, '0'))::uuid AS id
    FROM generate_series(1, 10000) n
), claims AS (
    INSERT INTO consumers.attempt
        (message_id, attempt, tenant, channel, provider, owner, claimed_at)
    SELECT id, 1, 'acme', 'sms', 'twilio', id, now() FROM ids
)
INSERT INTO consumers.outcome
    (message_id, attempt, status, reason, provider_message_id, occurred_at)
SELECT id, 1, 'sent', 'accepted', 'SM' || md5(n::text), now() FROM ids
"""


async def test_the_lookup_by_provider_id_uses_an_index(
    pool: AsyncConnectionPool,
) -> None:
    values = {"ids": ["SM1"], "since": UUID(int=0), "channel": "sms", "provider": "twilio"}
    async with pool.connection() as connection:
        await connection.execute(_TEN_THOUSAND)
        await connection.execute("ANALYZE consumers.outcome, consumers.attempt")
        cursor = await connection.execute(f"EXPLAIN {FIND_BY_PROVIDER_ID}", values)
        plan = "\n".join(line for (line,) in await cursor.fetchall())
        cursor = await connection.execute(
            "SELECT DISTINCT tableoid::regclass::text FROM consumers.outcome"
        )
        (filled,) = [name for (name,) in await cursor.fetchall()]
    table = filled.removeprefix("consumers.")
    assert f"Bitmap Index Scan on {table}_provider_message_id_idx" in plan
    assert f"Seq Scan on {table}" not in plan
