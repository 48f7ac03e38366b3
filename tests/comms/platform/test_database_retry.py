"""Work that meets an unavailable database: the test passes in the sleep."""

import asyncio

import pytest
from structlog.testing import capture_logs

from comms.platform.database import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError
from comms.platform.database_retry import retry_until_available, run_periodically


class Sleeps:
    """Keeps the seconds that were waited; ends the task after `limit` waits."""

    def __init__(self, limit: int = 100) -> None:
        self.seconds: list[float] = []
        self._limit = limit

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == self._limit:
            raise asyncio.CancelledError


class Statement:
    """Raises the given errors, one a call, and succeeds after them."""

    def __init__(self, *errors: DatabaseError) -> None:
        self.calls = 0
        self._errors = list(errors)

    async def __call__(self) -> int:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.calls


async def test_a_statement_is_repeated_until_the_database_is_available() -> None:
    sleeps = Sleeps()
    statement = Statement(*[DatabaseUnavailableError("it restarts")] * 3)
    with capture_logs() as logs:
        assert await retry_until_available(statement, seconds=2.0, sleep=sleeps) == 4
    assert sleeps.seconds == [2.0] * 3
    assert [(line["event"], line["problem"]) for line in logs] == [
        ("ledger.unavailable", "it restarts")
    ] * 3


async def test_a_refused_statement_is_not_repeated() -> None:
    statement = Statement(DatabaseRefusedError("no such table"))
    with pytest.raises(DatabaseRefusedError):
        await retry_until_available(statement, sleep=Sleeps())
    assert statement.calls == 1


async def test_periodic_work_goes_on_after_a_round_that_failed() -> None:
    sleeps = Sleeps(limit=4)
    work, errors = Statement(DatabaseUnavailableError("it restarts")), list[DatabaseError]()
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await run_periodically(
            work,
            seconds=5.0,
            event="work.failed",
            on_error=errors.append,
            wait_first=True,
            sleep=sleeps,
        )
    assert work.calls == 3
    assert sleeps.seconds == [5.0] * 4
    assert [str(error) for error in errors] == ["it restarts"]
    assert [line["event"] for line in logs] == ["work.failed"]


async def test_periodic_work_ends_with_an_error_that_is_not_to_be_retried() -> None:
    with pytest.raises(DatabaseRefusedError):
        await run_periodically(
            Statement(DatabaseRefusedError("no such table")), seconds=5.0, sleep=Sleeps()
        )


async def test_periodic_work_may_go_on_after_every_error_of_the_database() -> None:
    work = Statement(DatabaseRefusedError("no such table"))
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await run_periodically(work, seconds=5.0, retry_on=DatabaseError, sleep=Sleeps(limit=2))
    assert work.calls == 2
    assert len(logs) == 1
