"""Tenants' limits at the door: what is let in, what is answered 429, and for how long."""

import asyncio
from collections.abc import AsyncIterator

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import async_pool
from comms.platform.limits import Limit, TenantLimits, tenant_limits
from comms.platform.metrics import rejected_total
from comms.platform.problems import Problem
from comms.platform.toml_config import SettingsError
from producer import api
from producer.admission import TenantLimiter
from schemas.codec import Codec

SLOW = TenantLimits(own={"acme": Limit(rate=0.01, burst=5)})  # nothing comes back within a test
SMS = {"channel": "sms", "to": "+12025550100", "body": "hello"}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = async_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


def wait_of(problem: Problem) -> int:
    assert problem.status == 429
    assert problem.headers is not None
    return int(problem.headers["Retry-After"])


async def refused(admission: TenantLimiter, messages: int) -> int:
    """The Retry-After of a request that must not come in."""
    with pytest.raises(Problem) as told:
        await admission.admit("acme", messages)
    return wait_of(told.value)


async def test_all_processes_together_let_in_what_the_limit_allows(
    pool: AsyncConnectionPool,
) -> None:
    doors = [TenantLimiter(pool, SLOW) for _ in range(3)]

    async def knock(door: TenantLimiter) -> bool:
        try:
            await door.admit("acme", 1)
        except Problem:
            return False
        return True

    let_in = await asyncio.gather(*(knock(door) for door in doors * 4))
    assert sum(let_in) == 5


async def test_who_waits_as_long_as_it_was_told_is_let_in(pool: AsyncConnectionPool) -> None:
    limits, now = TenantLimits(default=Limit(rate=0.1, burst=10)), 0.0
    one, other = TenantLimiter(pool, limits), TenantLimiter(pool, limits, lambda: now)
    await one.admit("acme", 10)
    wait = await refused(other, 10)
    assert 95 <= wait <= 100

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds
        async with pool.connection() as connection:
            await connection.execute(
                "UPDATE producer.allowance SET at = at - make_interval(secs => %s)", (seconds,)
            )

    await pass_time(wait - 3)
    assert await refused(other, 10) <= 3
    await pass_time(3)
    await other.admit("acme", 10)


async def test_a_batch_over_what_is_left_takes_nothing(pool: AsyncConnectionPool) -> None:
    admission = TenantLimiter(pool, SLOW)
    await admission.admit("acme", 3)
    assert await refused(admission, 4) >= 100  # two more, at one in a hundred seconds
    await admission.admit("acme", 2)
    assert await refused(admission, 1) > 90


async def test_a_batch_over_the_burst_needs_a_full_bucket_and_is_owed(
    pool: AsyncConnectionPool,
) -> None:
    admission = TenantLimiter(pool, SLOW)
    await admission.admit("acme", 50)
    wait = await refused(admission, 1)
    assert 4500 < wait <= 4600  # forty-five are owed before the next


async def test_what_was_refused_is_refused_from_memory_until_its_time(
    pool: AsyncConnectionPool,
) -> None:
    now = 0.0
    admission = TenantLimiter(pool, SLOW, lambda: now)
    await admission.admit("acme", 5)
    first = await refused(admission, 1)
    async with pool.connection() as connection:
        await connection.execute("UPDATE producer.allowance SET tokens = 5")
    now += first - 10
    assert await refused(admission, 2) == 10
    now += 10.1
    await admission.admit("acme", 2)


async def test_nobody_else_is_held_back_and_no_row_is_kept(pool: AsyncConnectionPool) -> None:
    admission = TenantLimiter(pool, SLOW)
    for _ in range(20):
        await admission.admit("other", 1000)
    async with pool.connection() as connection:
        found = await (await connection.execute("SELECT tenant FROM producer.allowance")).fetchall()
    assert found == []


async def test_over_http_it_is_429_with_retry_after_and_nothing_is_accepted(
    pool: AsyncConnectionPool, database_url: str
) -> None:
    app = FastAPI()
    problems.install(app)
    door = TenantLimiter(pool, SLOW)
    authenticator = Authenticator(pool)
    app.include_router(
        api.router(pool=pool, codec=Codec(), authenticator=authenticator, admission=door)
    )
    counted = rejected_total.labels("rate_limited")._value.get()
    with psycopg.connect(database_url, autocommit=True) as session:
        key = keys.create(session, "acme", "test", "live")
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
    assert rejected_total.labels("rate_limited")._value.get() == counted + 5


def test_a_tenant_has_its_own_limit_or_that_of_all() -> None:
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


def test_the_environment_sets_the_limit_of_all() -> None:
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
def test_a_wrong_limit_is_named(table: object, key: str) -> None:
    with pytest.raises(SettingsError) as told:
        tenant_limits(table, {})
    assert told.value.key == key
