"""Brings a database to the newest version of the schema: `comms db upgrade`, `comms up`, the tests.

Apart from `comms.platform.database`, because services do not migrate and need not load what does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from comms.platform.database import translate_errors


def sqlalchemy_url(url: str) -> str:
    """The same database for SQLAlchemy, by way of psycopg 3."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def upgrade(url: str, *, revision: str = "head") -> None:
    """Bring the schema to a version; safe to run from several processes at once.

    Args:
        revision: the newest version by default.

    Raises:
        DatabaseUnavailableError, DatabaseRefusedError: the migration did not happen.
    """
    config = Config()
    config.set_main_option("script_location", str(files("comms.platform").joinpath("migrations")))
    engine = create_engine(sqlalchemy_url(url))
    try:
        with translate_errors(), _unwrapped(), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('comms.migrations'))"))
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS comms"))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        engine.dispose()


@contextmanager
def _unwrapped() -> Iterator[None]:
    """psycopg's own error in place of the one SQLAlchemy puts around it."""
    try:
        yield
    except DBAPIError as error:
        if error.orig is None:
            raise
        raise error.orig from None
