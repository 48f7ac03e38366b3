"""Fixtures for the tests of the producer: a database, a pool, and a client of the HTTP API."""

from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import create_pool
from producer import api
from schemas.codec import Codec


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    """Return a connection in autocommit mode, which sees what others have committed."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    pool = create_pool(database_url, size=6, name="test")
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture
async def client(
    pool: AsyncConnectionPool, database: psycopg.Connection
) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client with an API key of the tenant `acme`."""
    app = FastAPI()
    problems.install(app)
    app.include_router(api.router(pool=pool, codec=Codec(), authenticator=Authenticator(pool)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://comms",
        headers={"Authorization": f"Bearer {keys.create(database, 'acme', 'test')}"},
    ) as client:
        yield client
