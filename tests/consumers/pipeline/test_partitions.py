"""The ledger's partitions of the weeks to come are made by the channel processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import create_pool
from consumers.ledger.partitions import maintain_partitions

Session = psycopg.Connection[tuple[str, ...]]
PARTITIONS = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent IN ('consumers.attempt'::regclass, 'consumers.outcome'::regclass,
                    'consumers.receipt'::regclass)
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    opened = create_pool(database_url, size=2, name="test")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as session:
        yield session


def partitions(database: Session) -> set[str]:
    return {row[0] for row in database.execute(PARTITIONS)}


async def test_processes_that_start_at_once_make_what_is_missing(
    pool: AsyncConnectionPool, database: Session
) -> None:
    before = partitions(database)
    missing = {
        max(name for name in before if kind in name and "default" not in name)
        for kind in ("attempt", "outcome", "receipt")
    }
    for name in missing:
        database.execute(f"DROP TABLE {name}".encode())
    tasks = [asyncio.create_task(maintain_partitions(pool)) for _ in range(2)]
    async with asyncio.timeout(20):
        while await asyncio.to_thread(partitions, database) != before:
            assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    assert await asyncio.gather(*tasks, return_exceptions=True) != []
    assert missing
