"""The real engines that tests run on, Kafka and PostgreSQL, as pytest fixtures.

`tests/conftest.py` makes them available to every test. Both engines are the embedded ones by
default and start once per session, which is once per worker of pytest-xdist. Two environment
variables select others:

    COMMS_TEST_KAFKA         embedded (default), maven (Apache Kafka), docker, or the address of a
                             broker. An address needs -n 1, because workers would share topics.
    COMMS_TEST_DATABASE_URL  a server on which databases can be created and dropped

`database_url` is a migrated database for one test. `kafka_bootstrap` is the session's broker.
`broker` is a broker that only the test's module uses, with the topics. `new_engine` creates a
broker that a test can stop and start.
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
from tests.brokers import BrokerKind

__all__ = [
    "broker",
    "database_url",
    "kafka_bootstrap",
    "new_engine",
    "postgres_url",
    "template_database",
]

# A test's database need not survive a crash. Cloning is far slower with PostgreSQL's defaults.
_FAST_WITHOUT_DURABILITY = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the session's broker. All tests share its topics and groups."""
    with _session_kafka(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="module")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """A broker that holds the empty topics and nothing else when the module begins."""
    if _startable_kind() is not None:
        with _engine(tmp_path_factory.mktemp("broker")) as bootstrap:
            yield _with_topics(bootstrap)
    else:
        bootstrap = request.getfixturevalue("kafka_bootstrap")
        _remove_groups_and_topics(bootstrap)
        yield _with_topics(bootstrap)


@pytest.fixture
def new_engine() -> Callable[[Path], brokers.Engine]:
    """Creates brokers, not started, of the kind that the tests run on.

    Where the tests run on a broker that they do not start, it creates embedded ones.
    """
    return lambda data_dir: brokers.engine(_startable_kind() or BrokerKind.EMBEDDED, data_dir)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the session's PostgreSQL, for a user who can create databases."""
    url = os.environ.get("COMMS_TEST_DATABASE_URL")
    if url:
        yield url
        return
    engine = EmbeddedPostgres(
        tmp_path_factory.mktemp("postgres"), settings=_FAST_WITHOUT_DURABILITY
    )
    engine.start()
    try:
        yield engine.url
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """Name of a migrated database to clone. Nothing may connect to it."""
    with _database(postgres_url, prefix="comms_template") as name:
        upgrade(_with_database(postgres_url, name))
        yield name


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A new, migrated database. It is dropped after the test."""
    with _database(postgres_url, prefix="comms_test", template=template_database) as name:
        yield _with_database(postgres_url, name)


@contextmanager
def empty_database(server_url: str) -> Iterator[str]:
    """A database without any schema of ours, dropped at the end; yields its address."""
    with _database(server_url, prefix="comms_empty") as name:
        yield _with_database(server_url, name)


def _kafka_choice() -> str:
    return os.environ.get("COMMS_TEST_KAFKA", "embedded")


def _startable_kind() -> BrokerKind | None:
    """The kind of broker that the tests start, or None if they use one that already runs."""
    choice = _kafka_choice()
    return BrokerKind(choice) if choice in list(BrokerKind) else None


@contextmanager
def _engine(data_dir: Path) -> Iterator[str]:
    kind = _startable_kind()
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
    choice = _kafka_choice()
    if _startable_kind() is not None:
        with _engine(data_dir) as bootstrap:
            yield bootstrap
    elif choice == "docker":
        # Imported here: the import needs a Docker configuration, which other runs need not have.
        from testcontainers.kafka import KafkaContainer  # noqa: PLC0415

        with KafkaContainer().with_kraft() as container:
            yield container.get_bootstrap_server()
    elif int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        pytest.fail("workers cannot share the broker of COMMS_TEST_KAFKA: pass -n 1", pytrace=False)
    else:
        yield choice


def _with_topics(bootstrap: str) -> Broker:
    broker = Broker({"bootstrap.servers": bootstrap})
    broker.apply_topics()
    return broker


def _remove_groups_and_topics(bootstrap: str) -> None:
    """Remove what earlier modules left on a broker that outlives them."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    groups = [group.group_id for group in admin.list_consumer_groups().result().valid]
    comms_groups = [group for group in groups if group.startswith("comms-")]
    for future in admin.delete_consumer_groups(comms_groups).values() if comms_groups else ():
        future.result()
    topics = _comms_topics(admin)
    for future in admin.delete_topics(topics).values() if topics else ():
        future.result()
    deadline = time.monotonic() + 30
    while _comms_topics(admin):
        if time.monotonic() > deadline:
            raise KafkaException(f"topics still exist: {_comms_topics(admin)}")


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


def _with_database(server_url: str, name: str) -> str:
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
