"""Every table belongs to one service: the SQL, the database and the document agree.

The checker is tried on planted statements first, since one that finds nothing proves nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.ownership.document import BEGIN, END, PAGE, table, table_in, with_table
from tests.ownership.objects import BY_NAME, OBJECTS, ObjectKind, Owner
from tests.ownership.rules import definition_problems, named_objects, owner_of, problems
from tests.ownership.statements import texts_of

ROOT = Path(__file__).parents[1]
PRODUCT = ("schemas", "producer", "consumers", "audit", "comms")
MIGRATIONS = ROOT / "comms" / "platform" / "migrations"

RELATIONS = """
SELECT n.nspname || '.' || c.relname, CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname = ANY(%s)
"""
FUNCTIONS = """
SELECT n.nspname || '.' || p.proname, 'function', p.prosrc
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY(%s)
"""
VIEWS = """
SELECT n.nspname || '.' || c.relname, pg_get_viewdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname = ANY(%s)
"""
FOREIGN_KEYS = """
SELECT conrelid::regclass::text FROM pg_constraint
JOIN pg_class here ON here.oid = conrelid JOIN pg_class there ON there.oid = confrelid
WHERE contype = 'f' AND here.relnamespace <> there.relnamespace
"""


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(database_url) as session:
        session.execute("SET search_path = pg_catalog")
        yield session


def python_files() -> Iterator[Path]:
    for package in PRODUCT:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.is_relative_to(MIGRATIONS / "versions"):
                yield path


def found_in(owner: Owner | None, source: str) -> list[str]:
    """What the checker says about a module."""
    return [problem for sql in texts_of(source) for problem in problems(owner, sql.text)]


@pytest.mark.parametrize(
    ("owner", "source", "said"),
    [
        (Owner.AUDIT, 'Q = "SELECT id FROM producer.message"', "reads producer.message"),
        (Owner.CONSUMERS, 'Q = "SELECT 1 FROM audit.state"', "reads audit.state"),
        (Owner.PLATFORM, 'Q = "SELECT 1 FROM audit.recorded_message"', "does not publish"),
        (Owner.PRODUCER, 'Q = "SELECT 1 FROM audit.recorded_message"', "does not publish"),
        (Owner.AUDIT, 'Q = "SELECT name FROM comms.api_key"', "reads comms.api_key"),
        (
            Owner.CONSUMERS,
            'Q = "SELECT 1 FROM consumers.attempt JOIN audit.recorded_event USING (message_id)"',
            "one statement names objects of audit and consumers",
        ),
        (
            Owner.CONSUMERS,
            'Q = "SELECT 1 FROM producer.accepted_message, audit.recorded_message"',
            "one statement names objects of audit and producer",
        ),
        (
            Owner.CONSUMERS,
            'Q = "INSERT INTO consumers.receipt SELECT * FROM audit.recorded_event"',
            "one statement names objects of audit and consumers",
        ),
        (Owner.AUDIT, 'Q = "UPDATE consumers.worker SET lag_messages = 0"', "writes"),
        (Owner.AUDIT, 'Q = "DELETE FROM producer.accepted_message"', "writes"),
        (None, 'Q = "TRUNCATE audit.history"', "writes audit.history"),
        (
            Owner.CONSUMERS,
            'Q = "SELECT 1 FROM audit.recorded_message FOR UPDATE"',
            "locks rows of another service",
        ),
        (Owner.AUDIT, 'Q = "SELECT 1 FROM audit.no_such_table"', "is not on the list"),
        (Owner.AUDIT, 'Q = f"JOIN producer.queued_message ON {x}"', "a part of a statement"),
        (Owner.AUDIT, 'P = "FROM audit.state"\nQ = "SELECT 1 "', "a part of a statement"),
        (Owner.AUDIT, 'PAIR = ("consumers", "allowance")', "reads consumers.allowance"),
        (Owner.AUDIT, 'Q = f"SELECT {schema}.ensure_partitions()"', "only the running program"),
        # Put together from parts:
        (Owner.AUDIT, 'T = "producer.message"\nQ = f"SELECT 1 FROM {T}"', "reads producer.message"),
        (Owner.AUDIT, 'def f(x):\n    return "SELECT " + x + " FROM producer.outbox"', "reads"),
        (Owner.AUDIT, 'Q = "SELECT {} FROM producer.outbox".format("1")', "reads"),
        (Owner.AUDIT, 'run("SELECT 1 " "FROM producer.outbox", 1)', "reads producer.outbox"),
        (
            Owner.AUDIT,
            'V = "producer.queued_message"\nQ = f"SELECT 1 FROM {V} JOIN audit.state ON true"',
            "one statement names objects of audit and producer",
        ),
    ],
)
def test_a_planted_crossing_is_found(owner: Owner | None, source: str, said: str) -> None:
    assert any(said in problem for problem in found_in(owner, source))


@pytest.mark.parametrize(
    ("owner", "source"),
    [
        (Owner.AUDIT, 'Q = "SELECT 1 FROM audit.state JOIN audit.history USING (message_id)"'),
        (Owner.AUDIT, 'Q = "SELECT 1 FROM audit.state WHERE message_id > comms.uuid_from(now())"'),
        (Owner.AUDIT, 'Q = "SELECT 1 FROM producer.queued_message"'),
        (Owner.PRODUCER, 'Q = "SELECT consumers.withdraw(%s, %s, %s)"'),
        (
            Owner.CONSUMERS,
            "Q = \"SELECT 1 FROM audit.recording_progress WHERE topic = 'comms.sms'\"",
        ),
        (Owner.CONSUMERS, 'BOUND = "message_id >= comms.uuid_from(%(since)s)"'),
        (Owner.CONSUMERS, 'PAIR = ("consumers", "allowance")'),
        (Owner.CONSUMERS, '"""As `audit.state` has it."""'),
        (Owner.CONSUMERS, 'def f() -> None:\n    """Reads what producer.message has."""'),
        (None, 'Q = "SELECT 1 FROM audit.state, consumers.attempt"'),
        (Owner.AUDIT, 'W = "x = 1"\nQ = f"SELECT 1 FROM audit.state WHERE {W}"'),
    ],
)
def test_what_is_allowed_is_not_found(owner: Owner | None, source: str) -> None:
    assert found_in(owner, source) == []


@pytest.mark.parametrize("path", [*python_files()], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_names_only_what_its_service_may(path: Path) -> None:
    inside = path.relative_to(ROOT)
    owner = owner_of(inside)
    wrong = [
        f"{inside}:{sql.line}: {problem}"
        for sql in texts_of(path.read_text(encoding="utf-8"))
        for problem in problems(owner, sql.text)
    ]
    assert wrong == []


def test_a_file_of_sql_names_only_what_its_service_may() -> None:
    files = [path for package in PRODUCT for path in (ROOT / package).rglob("*.sql")]
    assert files
    for path in files:
        owner = owner_of(path.relative_to(ROOT))
        assert list(problems(owner, path.read_text(encoding="utf-8"))) == []


def test_what_is_published_to_a_service_is_read_by_it() -> None:
    read = {
        (owner_of(path.relative_to(ROOT)), item.name)
        for path in python_files()
        for sql in texts_of(path.read_text(encoding="utf-8"))
        for item in named_objects(sql.text)
    }
    published = {
        (service, item.name)
        for item in OBJECTS
        for service in item.published_to
        if item.owner is not Owner.PLATFORM
    }
    assert published <= read


def test_the_list_has_exactly_the_objects_of_the_database(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    relations = database.execute(RELATIONS, ([*Owner],)).fetchall()
    functions = database.execute(FUNCTIONS, ([*Owner],)).fetchall()
    there = {(row[0], row[1]) for row in (*relations, *functions)}
    assert there == {(item.name, str(item.kind)) for item in OBJECTS}


def test_views_and_functions_name_objects_of_their_own_schema(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    views = database.execute(VIEWS, ([*Owner],)).fetchall()
    functions = database.execute(FUNCTIONS, ([*Owner],)).fetchall()
    definitions = {row[0]: row[-1] for row in (*views, *functions)}
    assert set(definitions) == {i.name for i in OBJECTS if i.kind is not ObjectKind.TABLE}
    wrong = [
        f"{name} {problem}"
        for name, text in definitions.items()
        for problem in definition_problems(BY_NAME[name].owner, text)
    ]
    assert wrong == []
    assert database.execute(FOREIGN_KEYS).fetchall() == []


def test_a_planted_view_over_two_services_is_found(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    database.execute(
        "CREATE VIEW audit.planted AS SELECT s.message_id FROM audit.state s"
        " JOIN consumers.attempt a ON a.message_id = s.message_id"
    )
    text = dict(database.execute(VIEWS, (["audit"],)).fetchall())["audit.planted"]
    assert list(definition_problems(Owner.AUDIT, text)) == [
        "names consumers.attempt, which belongs to consumers"
    ]
    quoted = "SELECT comms.ensure_partitions('consumers.attempt', interval '1 week')"
    assert list(definition_problems(Owner.CONSUMERS, quoted)) == []
    assert list(definition_problems(Owner.AUDIT, quoted)) != []


def test_analysts_cannot_read_what_services_publish_to_each_other(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    database.execute("SET ROLE comms_analyst")
    assert database.execute("SELECT count(*) FROM audit.message").fetchone() == (0,)
    for query in (
        "SELECT count(*) FROM audit.recorded_message",
        "SELECT count(*) FROM audit.newest_messages_to('+1', 'sms', 'p', now())",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction():
            database.execute(query.encode())


def test_the_document_has_the_table() -> None:
    assert table_in(PAGE.read_text(encoding="utf-8")) == table()


def test_the_table_is_written_between_its_marks() -> None:
    assert with_table(f"before {BEGIN}old{END} after") == f"before {BEGIN}\n{table()}\n{END} after"
    with pytest.raises(ValueError, match="ownership:begin"):
        with_table("a page without marks")
