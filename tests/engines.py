"""The real engines that tests run on, as pytest fixtures.

`tests/conftest.py` offers them to every test. By default both engines are the embedded ones,
started once for the session; the environment names others:

    COMMS_TEST_KAFKA         embedded (default), maven (the genuine Apache Kafka), docker, or the
                             address of a broker
    COMMS_TEST_DATABASE_URL  a server on which databases may be created and dropped

`database_url` is a database of the test's own, with the migrations applied. `kafka_bootstrap` is
the session's broker; `broker` is one that nothing but the test's module has touched, with the
topics; `new_engine` makes one that a test may stop and start.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg import sql

from comms.platform.kafka import Broker
from comms.platform.upgrading import upgrade
from comms.stack.errors import EngineError
from comms.stack.postgres import EmbeddedPostgres
from tests import brokers

__all__ = [
    "broker",
    "database_url",
    "kafka_bootstrap",
    "new_engine",
    "postgres_url",
    "template_database",
]

# A test's database need not survive the machine; without this a clone takes far longer.
_FAST_AND_FORGETFUL = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the session's broker; topics and groups in it are shared by all."""
    with _session_kafka(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="module")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """A broker that holds the topics and nothing else when the module begins."""
    if _own_kind() is not None:
        with _engine(tmp_path_factory.mktemp("broker")) as bootstrap:
            yield _with_topics(bootstrap)
    else:
        bootstrap = request.getfixturevalue("kafka_bootstrap")
        _empty(bootstrap)
        yield _with_topics(bootstrap)


@pytest.fixture
def new_engine() -> Callable[[Path], brokers.Engine]:
    """Makes brokers, not started, of the kind that the tests run on; the embedded one where that
    is not for us to start."""
    return lambda data_dir: brokers.engine(_own_kind() or brokers.Kind.EMBEDDED, data_dir)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the session's PostgreSQL, for a user who may create databases."""
    given = os.environ.get("COMMS_TEST_DATABASE_URL")
    if given:
        yield given
        return
    engine = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=_FAST_AND_FORGETFUL)
    engine.start()
    try:
        yield engine.url
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """Name of a database with the migrations applied, to be cloned and never connected to."""
    with _database(postgres_url, prefix="comms_template") as name:
        upgrade(_on_database(postgres_url, name))
        yield name


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A fresh database with the migrations applied, dropped after the test."""
    with _database(postgres_url, prefix="comms_test", template=template_database) as name:
        yield _on_database(postgres_url, name)


@contextmanager
def empty_database(server_url: str) -> Iterator[str]:
    """A database without any schema of ours, dropped at the end; yields its address."""
    with _database(server_url, prefix="comms_empty") as name:
        yield _on_database(server_url, name)


def _kafka_kind() -> str:
    return os.environ.get("COMMS_TEST_KAFKA", "embedded")


def _own_kind() -> brokers.Kind | None:
    """The kind of broker that we start by ourselves, unless one was named."""
    kind = _kafka_kind()
    return brokers.Kind(kind) if kind in list(brokers.Kind) else None


@contextmanager
def _engine(data_dir: Path) -> Iterator[str]:
    kind = _own_kind()
    assert kind is not None
    engine = brokers.engine(kind, data_dir)
    try:
        engine.start()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield engine.bootstrap_servers
    finally:
        engine.stop(grace=0)


@contextmanager
def _session_kafka(data_dir: Path) -> Iterator[str]:
    kind = _kafka_kind()
    if _own_kind() is not None:
        with _engine(data_dir) as bootstrap:
            yield bootstrap
    elif kind == "docker":
        # Only here: its import asks for a Docker configuration that others need not have.
        from testcontainers.kafka import KafkaContainer  # noqa: PLC0415

        with KafkaContainer().with_kraft() as container:
            yield container.get_bootstrap_server()
    else:
        yield kind


def _with_topics(bootstrap: str) -> Broker:
    made = Broker({"bootstrap.servers": bootstrap})
    made.apply_topics()
    return made


def _empty(bootstrap: str) -> None:
    """Forget what former modules did on a broker that outlives them."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    groups = [g.group_id for g in admin.list_consumer_groups().result().valid]
    ours = [group for group in groups if group.startswith("comms-")]
    for future in admin.delete_consumer_groups(ours).values() if ours else ():
        future.result()
    topics = _comms_topics(admin)
    for future in admin.delete_topics(topics).values() if topics else ():
        future.result()
    deadline = time.monotonic() + 30
    while _comms_topics(admin):
        if time.monotonic() > deadline:
            raise KafkaException(f"topics are still there: {_comms_topics(admin)}")


def _comms_topics(admin: AdminClient) -> list[str]:
    return [name for name in admin.list_topics(timeout=10).topics if name.startswith("comms.")]


@contextmanager
def _database(server_url: str, *, prefix: str, template: str = "template1") -> Iterator[str]:
    name = f"{prefix}_{uuid4().hex}"
    quoted = sql.Identifier(name)
    with psycopg.connect(server_url, autocommit=True) as session:
        session.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(quoted, sql.Identifier(template))
        )
    try:
        yield name
    finally:
        with psycopg.connect(server_url, autocommit=True) as session:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


def _on_database(server_url: str, name: str) -> str:
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
