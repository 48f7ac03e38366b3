"""The rate limits of tenants: what is admitted, what gets the status 429, and for how long."""

import asyncio

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.limits import Limit, TenantLimits, tenant_limits
from comms.platform.metrics import rejected_total
from comms.platform.problems import Problem
from comms.platform.toml_config import SettingsError
from producer import api
from producer.admission import TenantLimiter
from schemas.codec import Codec

SLOW = TenantLimits(own={"acme": Limit(rate=0.01, burst=5)})  # no token is added during a test
SMS = {"channel": "sms", "to": "+12025550100", "body": "hello"}


async def retry_after(limiter: TenantLimiter, messages: int) -> int:
    """Return the Retry-After of a request that must be refused."""
    with pytest.raises(Problem) as caught:
        await limiter.admit("acme", messages)
    assert caught.value.status == 429
    assert caught.value.headers is not None
    return int(caught.value.headers["Retry-After"])


async def test_all_processes_together_admit_the_burst_and_no_more(
    pool: AsyncConnectionPool,
) -> None:
    limiters = [TenantLimiter(pool, SLOW) for _ in range(3)]

    async def is_admitted(limiter: TenantLimiter) -> bool:
        try:
            await limiter.admit("acme", 1)
        except Problem:
            return False
        return True

    admitted = await asyncio.gather(*(is_admitted(limiter) for limiter in limiters * 4))
    assert sum(admitted) == 5


async def test_a_request_after_retry_after_is_admitted(pool: AsyncConnectionPool) -> None:
    limits, now = TenantLimits(default=Limit(rate=0.1, burst=10)), 0.0
    first, second = TenantLimiter(pool, limits), TenantLimiter(pool, limits, lambda: now)
    await first.admit("acme", 10)
    wait = await retry_after(second, 10)
    assert 95 <= wait <= 100

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds
        async with pool.connection() as connection:
            await connection.execute(
                "UPDATE producer.allowance SET at = at - make_interval(secs => %s)", (seconds,)
            )

    await pass_time(wait - 3)
    assert await retry_after(second, 10) <= 3
    await pass_time(3)
    await second.admit("acme", 10)


async def test_a_refused_batch_takes_no_tokens(pool: AsyncConnectionPool) -> None:
    limiter = TenantLimiter(pool, SLOW)
    await limiter.admit("acme", 3)
    assert await retry_after(limiter, 4) >= 100  # two more tokens, one in 100 seconds
    await limiter.admit("acme", 2)
    assert await retry_after(limiter, 1) > 90


async def test_a_batch_larger_than_the_burst_leaves_a_debt(
    pool: AsyncConnectionPool,
) -> None:
    limiter = TenantLimiter(pool, SLOW)
    await limiter.admit("acme", 50)
    wait = await retry_after(limiter, 1)
    assert 4500 < wait <= 4600  # 45 tokens are owed before the next one


async def test_a_refusal_is_repeated_from_memory_until_retry_after(
    pool: AsyncConnectionPool,
) -> None:
    now = 0.0
    limiter = TenantLimiter(pool, SLOW, lambda: now)
    await limiter.admit("acme", 5)
    first = await retry_after(limiter, 1)
    async with pool.connection() as connection:
        await connection.execute("UPDATE producer.allowance SET tokens = 5")
    now += first - 10
    assert await retry_after(limiter, 2) == 10
    now += 10.1
    await limiter.admit("acme", 2)


async def test_a_tenant_without_a_limit_is_admitted_without_a_row(
    pool: AsyncConnectionPool,
) -> None:
    limiter = TenantLimiter(pool, SLOW)
    for _ in range(20):
        await limiter.admit("other", 1000)
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT tenant FROM producer.allowance")
        assert await cursor.fetchall() == []


async def test_over_http_a_refusal_is_429_and_nothing_is_accepted(
    pool: AsyncConnectionPool, database_url: str
) -> None:
    app = FastAPI()
    problems.install(app)
    limiter = TenantLimiter(pool, SLOW)
    authenticator = Authenticator(pool)
    app.include_router(
        api.router(pool=pool, codec=Codec(), authenticator=authenticator, admission=limiter)
    )
    rejected_before = rejected_total.labels("rate_limited")._value.get()
    with psycopg.connect(database_url, autocommit=True) as session:
        key = keys.create(session, "acme", "test")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://comms",
            headers={"Authorization": f"Bearer {key}"},
        ) as client:
            keyed = SMS | {"idempotency_key": "k"}
            assert (await client.post("/v1/messages", json=keyed)).status_code == 202
            assert (await client.post("/v1/messages", json=keyed)).status_code == 200
            batch = {"messages": [SMS] * 4}
            over = await client.post("/v1/messages/batch", json=batch)
            assert over.status_code == 429
            assert over.headers["Content-Type"] == "application/problem+json"
            assert int(over.headers["Retry-After"]) > 0
            assert "0.01 messages a second, 5 at once" in over.json()["detail"]
            batch = {"messages": [SMS] * 3}
            within = await client.post("/v1/messages/batch", json=batch)
            assert within.status_code == 202
            assert (await client.post("/v1/messages", json=SMS)).status_code == 429
        row = session.execute("SELECT count(*) FROM producer.message").fetchone()
    assert row == (4,)
    assert rejected_total.labels("rate_limited")._value.get() == rejected_before + 5


def test_a_tenant_has_its_own_limit_or_the_default() -> None:
    limits = tenant_limits(
        {
            "rate_limit": 10,
            "acme": {"rate_limit": 100, "burst": 500},
            "free": {"rate_limit": 0},
            "spiky": {"burst": 40},
        },
        {},
    )
    assert limits.of("anybody") == Limit(rate=10, burst=10)
    assert limits.of("acme") == Limit(rate=100, burst=500)
    assert limits.of("free") is None
    assert limits.of("spiky") == Limit(rate=10, burst=40)


def test_the_environment_sets_the_default_limit() -> None:
    limits = tenant_limits({"rate_limit": 10}, {"COMMS_TENANT_RATE_LIMIT": "0.5"})
    assert limits.of("anybody") == Limit(rate=0.5, burst=1)
    assert tenant_limits({}, {}).of("anybody") is None


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"rate_limit": "many"}, "tenants.rate_limit"),
        ({"rate_limit": "nan"}, "tenants.rate_limit"),
        ({"speed": 1}, "tenants.speed"),
        ({"acme": {"burst": 0}}, "tenants.acme.burst"),
        ({"acme": {"rate": 1}}, "tenants.acme.rate"),
        ([], "tenants"),
    ],
)
def test_a_wrong_limit_is_named_by_its_key(table: object, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        tenant_limits(table, {})
    assert caught.value.key == key
