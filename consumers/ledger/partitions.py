"""Makes the ledger's partitions of the weeks to come.

`consumers.service` runs `maintain_partitions` as a task of every channel process. A row that finds
no partition goes to the default one and is not lost.
"""

import asyncio
from functools import partial

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import DatabaseRefusedError, translate_errors
from comms.platform.database_retry import retry_until_available

log = structlog.get_logger(__name__)

MAINTAIN_SECONDS = 24 * 60 * 60.0
RETRY_SECONDS = 60.0


async def maintain_partitions(pool: AsyncConnectionPool) -> None:
    """Make the partitions that are missing, now and once a day, until cancelled."""
    while True:
        try:
            await retry_until_available(partial(make_partitions, pool), seconds=RETRY_SECONDS)
        except DatabaseRefusedError as error:
            log.error(  # noqa: TRY400 - the sentence says it all
                "ledger.partitions_not_made", problem=str(error)
            )
        await asyncio.sleep(MAINTAIN_SECONDS)


async def make_partitions(pool: AsyncConnectionPool) -> None:
    """Make the partitions that are missing.

    Raises:
        DatabaseError: they were not made.
    """
    with translate_errors():
        async with pool.connection() as connection:
            await connection.execute("SELECT consumers.ensure_partitions()")
