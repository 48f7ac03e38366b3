"""What people write, and receipts that carry only the provider's id, on a real database."""

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
    made = create_pool(database_url, size=3, name="test")
    await made.open()
    yield made
    await made.close()


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
def test_a_text_that_is_a_stop_word_as_a_whole_is_an_objection(text: str, expected: bool) -> None:
    assert is_stop(text) is expected


async def sent(
    pool: AsyncConnectionPool, tenant: str, to: str, *, provider: str = "twilio", days: int = 0
) -> UUID:
    """A message that the audit store knows as sent, so many days ago."""
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


async def listed(pool: AsyncConnectionPool) -> set[tuple[str, str, str]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT tenant, recipient, reason FROM consumers.suppression"
        )
        return {(tenant, to, reason) for tenant, to, reason in await cursor.fetchall()}


async def test_stop_reaches_every_tenant_that_wrote_lately_by_that_provider(
    pool: AsyncConnectionPool,
) -> None:
    await sent(pool, "acme", PERSON)
    await sent(pool, "zeta", PERSON, days=29)
    await sent(pool, "late", PERSON, days=31)
    await sent(pool, "elsewhere", PERSON, provider="vonage")
    await sent(pool, "others", OTHER)
    desk = AttemptLookup(pool)
    for text in ("Thank you", "STOP", "STOP"):
        inbound = Inbound(from_=PERSON, to="+15005550006", text=text)
        assert await desk.match(Channel.SMS, "twilio", [inbound]) == []
    assert await listed(pool) == {("acme", PERSON, "opt_out"), ("zeta", PERSON, "opt_out")}


async def test_a_receipt_with_the_providers_id_alone_finds_its_message(
    pool: AsyncConnectionPool,
) -> None:
    ours = new_message_id()
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO consumers.attempt"
            " (message_id, attempt, tenant, channel, provider, owner, claimed_at)"
            " VALUES (%s, 1, 'acme', 'sms', 'twilio', %s, now())",
            (ours, uuid4()),
        )
        await connection.execute(
            "INSERT INTO consumers.outcome"
            " (message_id, attempt, status, reason, provider_message_id, occurred_at)"
            " VALUES (%s, 1, 'sent', 'accepted', 'SM1', now())",
            (ours,),
        )
    said = [
        UnmatchedReceipt(
            delivered=True,
            occurred_at=datetime.now(UTC),
            response=ProviderResponse(provider_message_id=theirs),
        )
        for theirs in ("SM1", "SM2")
    ]
    desk = AttemptLookup(pool)
    found = await desk.match(Channel.SMS, "twilio", said)
    assert [(type(one), one.message_id) for one in found] == [(Receipt, ours)]
    assert await desk.match(Channel.SMS, "vonage", said) == []


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


async def test_the_ledger_is_not_read_through_for_a_providers_id(
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
