"""PostgreSQL: pools, and the one seam where psycopg's errors become ours.

Every service opens its pool here. Code beyond this module that talks to the database does so inside
`translated()`, or through a pool made here, and sees only the errors below.

    DatabaseError
    ├── DatabaseUnavailableError   retry: the server is away, restarting, out of connections or disk
    └── DatabaseRefusedError       do not retry: the statement broke a rule of the database
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout


class DatabaseError(Exception):
    """The database did not do what was asked."""


class DatabaseUnavailableError(DatabaseError):
    """The server is away or short of something that comes back; the same call may succeed later."""


class DatabaseRefusedError(DatabaseError):
    """The server refused the statement; repeating it changes nothing."""


_RETRYABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    PoolTimeout,
)


@contextmanager
def translated() -> Iterator[None]:
    """Turns psycopg's errors into ours.

    Raises:
        DatabaseUnavailableError, DatabaseRefusedError: in place of psycopg's.
    """
    try:
        yield
    except _RETRYABLE as error:
        raise DatabaseUnavailableError(_one_line(error)) from error
    except psycopg.Error as error:
        raise DatabaseRefusedError(_one_line(error)) from error


def is_address(url: str) -> bool:
    """Whether PostgreSQL's client can read an address. Why it cannot is not told, as that quotes
    it, with the password."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return False
    return True


def _one_line(error: Exception) -> str:
    """The error's first line: the detail below it may quote a row, and a row holds recipients."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def pool(url: str, *, size: int, name: str) -> ConnectionPool:
    """A pool for threads; opens in the background and reconnects for ever.

    Args:
        url: `postgresql://…`; size: connections at most; name: seen in pg_stat_activity.
    """
    return ConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=True,
        timeout=10,
        kwargs={"application_name": f"comms-{name}", "autocommit": True},
    )


def async_pool(url: str, *, size: int, name: str) -> AsyncConnectionPool:
    """A pool for one event loop, still closed: `await pool.open()` on that loop."""
    return AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=False,
        timeout=10,
        kwargs={"application_name": f"comms-{name}", "autocommit": True},
    )
