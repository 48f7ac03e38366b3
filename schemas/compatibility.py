"""Proof that old and new readers survive a change of the schemas.

`comms schemas check` and CI ask `check`. Every published version of a schema is held against the
current one in both directions: by the rules of Avro's schema resolution as the `avro` package knows
them, and by what those rules let pass although it changes the meaning of a value (another logical
type, another default, text for bytes, another namespace). Services never import this module.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import avro.errors
import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

_INTERCHANGEABLE = frozenset({"string", "bytes"})  # for a resolver; not for whoever reads the value
_NAMED = frozenset({"record", "enum", "fixed"})

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a schema.

    Args:
        file: its name; version: the published version it clashes with, or `current`.
        problem: one sentence, with the field where there is one.
    """

    file: str
    version: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file} (version {self.version}): {self.problem}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` looked at and what it found."""

    schemas: int
    versions: tuple[str, ...]
    findings: tuple[Finding, ...]


def check(root: Traversable | None = None) -> Report:
    """Hold the schemas in `root` against every version in `root/published`.

    Args:
        root: a folder laid out as this package's own, which is the default.
    """
    folder = files("schemas") if root is None else root
    current = _texts(folder)
    published = {
        version.name: _texts(version)
        for version in sorted(_folders(folder.joinpath("published")), key=_version_number)
    }
    findings = [
        *(finding for file, text in current.items() for finding in _alone(file, text)),
        *_of_versions(current, published),
        *_unpublished(current, published),
    ]
    return Report(len(current), tuple(published), tuple(findings))


def clashes(old: str, new: str) -> list[str]:
    """Why a reader or writer of one schema does not survive the other; empty when both do."""
    try:
        parsed_old, parsed_new = _parsed(old), _parsed(new)
    except avro.errors.AvroException as error:
        return [f"not an Avro schema: {error}"]
    return [
        *_unresolved(reader=parsed_old, writer=parsed_new, who="an old reader of new values"),
        *_unresolved(reader=parsed_new, writer=parsed_old, who="a new reader of old values"),
        *_changed(json.loads(old), json.loads(new), ""),
    ]


def _of_versions(
    current: Mapping[str, str], published: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    for version, texts in published.items():
        for file, old in texts.items():
            if file not in current:
                yield Finding(file, version, "published, and no longer there")
                continue
            for problem in clashes(old, current[file]):
                yield Finding(file, version, problem)


def _unpublished(
    current: Mapping[str, str], published: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    """A schema in use must be kept: the readers of the next one find its values in the topics."""
    for file, text in current.items():
        kept = [_canonical(texts[file]) for texts in published.values() if file in texts]
        form = _canonical(text)
        if form is not None and form not in kept:
            number = max(map(int, filter(str.isdecimal, published)), default=0) + 1
            yield Finding(file, "current", f"not published yet: copy it to published/{number}/")


def _parsed(text: str) -> avro.schema.Schema:
    with warnings.catch_warnings():
        # A logical type that does not fit its type: readers ignore it, and so may we.
        warnings.simplefilter("ignore", avro.errors.IgnoredLogicalType)
        return avro.schema.parse(text)


def _canonical(text: str) -> str | None:
    try:
        return str(_parsed(text).canonical_form)
    except avro.errors.AvroException:
        return None


def _alone(file: str, text: str) -> Iterator[Finding]:
    """What can be said of a schema without another one."""
    try:
        _parsed(text)
    except avro.errors.AvroException as error:
        yield Finding(file, "current", f"not an Avro schema: {error}")
        return
    for place in _undocumented(json.loads(text), ""):
        yield Finding(file, "current", f"{place} has no doc")


def _undocumented(node: object, place: str) -> Iterator[str]:
    for record, where in _records(node, place):
        if not str(record.get("doc", "")).strip():
            yield where or str(record["name"])
        for field in record["fields"]:
            if not str(field.get("doc", "")).strip():
                yield f"{where}.{field['name']}".lstrip(".")


def _records(node: object, place: str) -> Iterator[tuple[Node, str]]:
    match node:
        case list():
            for branch in node:
                yield from _records(branch, place)
        case dict() if node["type"] == "record":
            yield node, place
            for field in node["fields"]:
                yield from _records(field["type"], f"{place}.{field['name']}".lstrip("."))
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            yield from _records(inner, f"{place}[]")
        case {"type": (dict() | list()) as inner}:
            yield from _records(inner, place)
        case _:
            return


def _unresolved(
    *, reader: avro.schema.Schema, writer: avro.schema.Schema, who: str
) -> Iterator[str]:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader, writer)
    if result.compatibility is not SchemaCompatibilityType.compatible:
        kinds = ", ".join(sorted({kind.value for kind in result.incompatibilities}))
        yield f"{who} fails: {kinds.replace('_', ' ')} ({'; '.join(sorted(result.messages))})"


def _changed(old: object, new: object, place: str) -> Iterator[str]:
    """What resolution lets pass, and means something else."""
    before, after = _branches(old), _branches(new)
    for kind in before.keys() & after.keys():
        yield from _changed_branch(before[kind], after[kind], place)
    if (
        before.keys() & _INTERCHANGEABLE
        and after.keys() & _INTERCHANGEABLE
        and not before.keys() & after.keys() & _INTERCHANGEABLE
    ):
        yield f"{place} is now {_plain(after)} and was {_plain(before)}"


def _changed_branch(old: Node, new: Node, place: str) -> Iterator[str]:
    was, now = old.get("logicalType"), new.get("logicalType")
    if was != now:
        yield f"{place} has logical type {now or 'none'} and had {was or 'none'}"
    if old["type"] in _NAMED and _full_name(old) != _full_name(new):
        yield f"{place or 'the record'} is named {_full_name(new)} and was {_full_name(old)}"
    if old["type"] == "enum" and old.get("default") != new.get("default"):
        yield f"{place} has enum default {new.get('default')} and had {old.get('default')}"
    for inner in ("items", "values"):
        if inner in old and inner in new:
            yield from _changed(old[inner], new[inner], f"{place}[]")
    if old["type"] == "record":
        yield from _changed_fields(old, new, place)


def _changed_fields(old: Node, new: Node, place: str) -> Iterator[str]:
    before = {field["name"]: field for field in old["fields"]}
    for field in new["fields"]:
        former = before.get(field["name"])
        if former is None:
            continue
        where = f"{place}.{field['name']}".lstrip(".")
        # A default given or taken away is resolution's to judge; another one changes old values.
        both = "default" in former and "default" in field
        if both and former["default"] != field["default"]:
            yield f"{where} has default {field['default']!r} and had {former['default']!r}"
        yield from _changed(former["type"], field["type"], where)


def _branches(node: object) -> dict[str, Node]:
    """A type's alternatives by kind: a union's branches, or the one type."""
    if isinstance(node, list):
        return {kind: branch for item in node for kind, branch in _branches(item).items()}
    if isinstance(node, str):
        return {node: {"type": node}}
    if isinstance(node, dict):
        inner = node["type"]
        return _branches(inner) if isinstance(inner, dict | list) else {str(inner): node}
    raise TypeError(f"no type of a schema: {type(node).__name__}")


def _plain(branches: Mapping[str, Node]) -> str:
    return " or ".join(sorted(branches.keys() & _INTERCHANGEABLE))


def _full_name(node: Node) -> str:
    namespace = node.get("namespace")
    return f"{namespace}.{node['name']}" if namespace else str(node["name"])


def _folders(folder: Traversable) -> list[Traversable]:
    return [item for item in folder.iterdir() if item.is_dir()] if folder.is_dir() else []


def _version_number(folder: Traversable) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdecimal() else 0, folder.name)


def _texts(folder: Traversable) -> dict[str, str]:
    return {
        item.name: item.read_text(encoding="utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".avsc")
    }
