"""What a task does while the database is unavailable: log the problem, wait, and try again.

Tasks on an event loop use this module instead of loops of their own. `retry_until_available` is for
a statement that must be carried out, `run_periodically` for work that is done again and again, and
`pause` for a loop that has to put something back first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from comms.platform.database import DatabaseError, DatabaseUnavailableError

log = structlog.get_logger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]

PAUSE_SECONDS = 0.5
UNAVAILABLE = "ledger.unavailable"  # the log event, unless a caller has its own


async def pause(
    error: Exception, *, seconds: float = PAUSE_SECONDS, sleep: Sleep = asyncio.sleep
) -> None:
    """Log that the database is unavailable, and wait before the next try."""
    log.warning(UNAVAILABLE, problem=str(error))
    await sleep(seconds)


async def retry_until_available(
    statement: Callable[[], Awaitable[T]],
    *,
    seconds: float = PAUSE_SECONDS,
    sleep: Sleep = asyncio.sleep,
) -> T:
    """Carry out a statement, again and again while the database is unavailable.

    Args:
        statement: must change nothing when it is carried out twice.
        seconds: the pause between two tries.

    Raises:
        DatabaseRefusedError: the database is there and refused the statement.
    """
    while True:
        try:
            return await statement()
        except DatabaseUnavailableError as error:
            await pause(error, seconds=seconds, sleep=sleep)


async def run_periodically(
    work: Callable[[], Awaitable[object]],
    *,
    seconds: float,
    event: str = UNAVAILABLE,
    retry_on: type[DatabaseError] = DatabaseUnavailableError,
    on_error: Callable[[DatabaseError], None] = lambda _: None,
    wait_first: bool = False,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Do work every so many seconds until cancelled, whether the database is available or not.

    Args:
        work: one round; what it could not do is left to the next.
        event: the name of the log event of a round that failed.
        retry_on: the errors that do not end the task; all others do.
        on_error: called with the error of a round that failed.
        wait_first: wait before the first round too.
    """
    if wait_first:
        await sleep(seconds)
    while True:
        try:
            await work()
        except retry_on as error:
            log.warning(event, problem=str(error))
            on_error(error)
        await sleep(seconds)
