"""Connection pools of PostgreSQL, and the one place that translates psycopg's errors.

Every service creates its pool here. Other modules run their statements inside `translate_errors()`,
and see only these errors:

    DatabaseError
    ├── DatabaseUnavailableError   retry: the server is down, restarting, or has no connection or
    │                              disk space left
    └── DatabaseRefusedError       do not retry: the statement violated a rule of the database
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, PoolTimeout


class DatabaseError(Exception):
    """The database did not carry out a statement."""


class DatabaseUnavailableError(DatabaseError):
    """The server is down or lacks a resource for the moment; the same call may succeed later."""


class DatabaseRefusedError(DatabaseError):
    """The server refused the statement; it will refuse it again."""


_RETRYABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    PoolTimeout,
)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate psycopg's errors into the errors of this module.

    Raises:
        DatabaseUnavailableError, DatabaseRefusedError: in place of an error of psycopg.
    """
    try:
        yield
    except _RETRYABLE as error:
        raise DatabaseUnavailableError(_one_line(error)) from error
    except psycopg.Error as error:
        raise DatabaseRefusedError(_one_line(error)) from error


def is_valid_url(url: str) -> bool:
    """Whether PostgreSQL's client can parse a URL.

    The client's own error message is not returned, because it quotes the URL with the password.
    """
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return False
    return True


def _one_line(error: Exception) -> str:
    """Return the first line of an error. The other lines may quote a row with a recipient."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def create_pool(url: str, *, size: int, name: str) -> AsyncConnectionPool:
    """Create a closed pool for one event loop; open it there with `await pool.open()`.

    The pool reconnects without a limit.

    Args:
        url: `postgresql://…`.
        size: the maximum number of connections.
        name: the name in pg_stat_activity.
    """
    return AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=False,
        timeout=10,
        kwargs={"application_name": f"comms-{name}", "autocommit": True},
    )
