"""What the audit tests share: a connection ready to merge, and the read side as an application."""

from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from audit import api, merge, page
from audit.feed import Feed
from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import async_pool


@pytest.fixture
def connection(database_url: str) -> Iterator[merge.Connection]:
    with merge.connect(database_url) as opened:
        yield opened


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = async_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def app(pool: AsyncConnectionPool) -> FastAPI:
    """The API's reading half and the page."""
    made = FastAPI()
    problems.install(made)
    authenticator = Authenticator(pool)
    made.include_router(api.router(pool=pool, authenticator=authenticator, feed=Feed(pool)))
    made.include_router(page.router(pool=pool, authenticator=authenticator))
    return made


@pytest.fixture
def key(connection: merge.Connection) -> str:
    return keys.create(connection, "acme", "test")


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key, who keeps cookies."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://comms"
    ) as opened:
        yield opened


@pytest.fixture
def client(visitor: httpx.AsyncClient, key: str) -> httpx.AsyncClient:
    """A program of the tenant `acme`."""
    visitor.headers["Authorization"] = f"Bearer {key}"
    return visitor
