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
from comms.platform.database import create_pool


@pytest.fixture
def connection(database_url: str) -> Iterator[merge.Connection]:
    with merge.connect(database_url) as opened:
        yield opened


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def app(pool: AsyncConnectionPool) -> FastAPI:
    """An application with the read API and the page."""
    application = FastAPI()
    problems.install(application)
    authenticator = Authenticator(pool)
    application.include_router(api.router(pool=pool, authenticator=authenticator, feed=Feed(pool)))
    application.include_router(page.router(pool=pool, authenticator=authenticator))
    return application


@pytest.fixture
def key(connection: merge.Connection) -> str:
    return keys.create(connection, "acme", "test")


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key, which keeps cookies."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://comms"
    ) as opened:
        yield opened


@pytest.fixture
def client(visitor: httpx.AsyncClient, key: str) -> httpx.AsyncClient:
    """A client with a key of the tenant `acme`."""
    visitor.headers["Authorization"] = f"Bearer {key}"
    return visitor
