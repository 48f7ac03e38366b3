"""Judges SQL: which objects of the database a text names, and whether the service may.

The rules, for the code of a service:

1. It reads its own objects, and those that are published to it.
2. One statement names the objects of one service. The platform's published functions stand beside
   any of them.
3. It writes and locks its own tables only.
4. It writes every schema out. `{schema}.name`, filled in at run time, is not to be seen here.
5. A piece of SQL that names an object and is no statement is refused: the statement that it becomes
   part of at run time is not to be seen here.

Code above the services (command line, application, one-machine stack) may read everything. A view
or a function of the database names objects of its own schema only.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.ownership.objects import BY_NAME, SERVICES, DatabaseObject, ObjectKind, Owner
from tests.ownership.statements import UNKNOWN

_SCHEMAS = "|".join(Owner)
_NAME = re.compile(rf"(?<![\w.'\"/])({_SCHEMAS})\.([a-z_][a-z0-9_]*)(?![\w.]*[.:]\w)")
_PLACE = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|ONLY)\s+(({_SCHEMAS})\.[a-z_][a-z0-9_]*)")
_WRITE = re.compile(
    rf"\b(?:INSERT\s+INTO|MERGE\s+INTO|(?<!FOR )UPDATE|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?|COPY"
    rf"|LOCK(?:\s+TABLE)?|(?:ALTER|DROP|CREATE)\s+\w+)\s+(?:ONLY\s+)?"
    rf"(({_SCHEMAS})\.[a-z_][a-z0-9_]*)"
)
_UNSEEN_SCHEMA = re.compile(rf"{re.escape(UNKNOWN.strip())}\s*\.\s*[a-z_]+\b")
_ROW_LOCK = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|(?:KEY\s+)?SHARE)\b")
_STATEMENT = re.compile(
    r"\s*(?:--[^\n]*\n\s*)*(?:SELECT|INSERT|UPDATE|DELETE|WITH|COPY|LOCK|MERGE|TRUNCATE|VALUES|CREATE"
    r"|ALTER|DROP|SET|DO|CALL|TABLE)\b"
)
_COMMENT = re.compile(r"--[^\n]*")
_LITERAL = re.compile(r"'(?:[^']|'')*'")

ABOVE_THE_SERVICES = None


def owner_of(path: Path) -> Owner | None:
    """Return the service that a file of the product belongs to; None for code above the services.

    Args:
        path: from the root of the repository.
    """
    if path.parts[0] in SERVICES:
        return Owner(path.parts[0])
    return Owner.PLATFORM if path.parts[:2] == ("comms", "platform") else ABOVE_THE_SERVICES


def named_objects(text: str) -> set[DatabaseObject]:
    """Return the objects of the list that a text names."""
    plain = _plain(text)
    names = {f"{schema}.{name}" for schema, name in _NAME.findall(plain)}
    return {BY_NAME[name] for name in names if name in BY_NAME}


def problems(owner: Owner | None, text: str) -> Iterator[str]:
    """Yield what is wrong with a text in the code of a service; nothing if it is no SQL."""
    plain = _plain(text)
    if _STATEMENT.match(text) and _UNSEEN_SCHEMA.search(plain):
        yield "names an object of a schema that only the running program knows"
    for name, _ in _PLACE.findall(plain):
        if name not in BY_NAME:
            yield f"{name} is not on the list of tests/ownership/objects.py"
    objects = named_objects(text)
    yield from _writes(owner, plain, objects)
    if owner is ABOVE_THE_SERVICES or not objects:
        return
    yield from _reads(owner, objects)
    foreign = {item.owner for item in objects if not _is_for_everyone(item)}
    if len(foreign) > 1:
        yield f"one statement names objects of {' and '.join(sorted(foreign))}"
    if foreign and not _STATEMENT.match(text) and text.strip() not in BY_NAME:
        yield f"a part of a statement names {', '.join(sorted(item.name for item in objects))}"


def definition_problems(owner: Owner, text: str) -> Iterator[str]:
    """Yield what is wrong with the definition of a view or function in the schema of `owner`."""
    quoted = {word for word in re.findall(r"'([^']*)'", text) if word in BY_NAME}
    objects = named_objects(text) | {BY_NAME[name] for name in quoted}
    for item in sorted(objects, key=lambda item: item.name):
        if item.owner is not owner and not _is_for_everyone(item):
            yield f"names {item.name}, which belongs to {item.owner}"


def _plain(text: str) -> str:
    """SQL without its comments and quoted values."""
    return _LITERAL.sub("''", _COMMENT.sub("", text))


def _writes(owner: Owner | None, plain: str, objects: set[DatabaseObject]) -> Iterator[str]:
    for name, schema in _WRITE.findall(plain):
        if schema != owner:
            yield f"writes {name}, which belongs to {schema}"
    foreign = any(item.owner is not owner and not _is_for_everyone(item) for item in objects)
    if foreign and _ROW_LOCK.search(plain):
        yield "locks rows of another service"


def _reads(owner: Owner, objects: set[DatabaseObject]) -> Iterator[str]:
    for item in sorted(objects, key=lambda item: item.name):
        if item.owner is not owner and owner not in item.published_to:
            yield f"reads {item.name}, which {item.owner} does not publish to {owner}"


def _is_for_everyone(item: DatabaseObject) -> bool:
    return (
        item.owner is Owner.PLATFORM
        and item.kind is ObjectKind.FUNCTION
        and item.published_to == SERVICES
    )
