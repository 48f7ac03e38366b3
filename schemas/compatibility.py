"""The check that a changed schema can be read by old and new readers.

`comms schemas check` and CI call `check`. It compares every published version of a schema with the
current one, in both directions. It applies the rules of Avro's schema resolution, as the package
`avro` implements them. It also reports changes that resolution allows although they change the
meaning of a value: another logical type, another default, text in place of bytes, another
namespace. Services never import this module.
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

_INTERCHANGEABLE = frozenset({"string", "bytes"})  # resolution converts one to the other
_NAMED = frozenset({"record", "enum", "fixed"})

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a schema.

    Args:
        file: the name of the schema's file.
        version: the published version that is incompatible with it, or `current`.
        problem: one sentence, with the field if there is one.
    """

    file: str
    version: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file} (version {self.version}): {self.problem}"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `check`.

    Args:
        schemas: the number of current schemas.
        versions: the published versions, in order.
        findings: the problems; empty if there are none.
    """

    schemas: int
    versions: tuple[str, ...]
    findings: tuple[Finding, ...]


def check(root: Traversable | None = None) -> Report:
    """Compare the schemas in `root` with every version in `root/published`.

    Args:
        root: a folder with the layout of this package, which is the default.
    """
    folder = files("schemas") if root is None else root
    current = _read_schemas(folder)
    published = {
        version.name: _read_schemas(version)
        for version in sorted(_folders(folder.joinpath("published")), key=_version_number)
    }
    findings = [
        *(finding for file, text in current.items() for finding in _check_schema(file, text)),
        *_compare_versions(current, published),
        *_find_unpublished(current, published),
    ]
    return Report(len(current), tuple(published), tuple(findings))


def find_incompatibilities(old: str, new: str) -> list[str]:
    """Return why a reader of one schema cannot read values of the other; empty if both can."""
    try:
        parsed_old, parsed_new = _parse(old), _parse(new)
    except avro.errors.AvroException as error:
        return [f"not an Avro schema: {error}"]
    return [
        *_resolution_errors(parsed_old, parsed_new, case="an old reader of new values"),
        *_resolution_errors(parsed_new, parsed_old, case="a new reader of old values"),
        *_changed_meanings(json.loads(old), json.loads(new), ""),
    ]


def _compare_versions(
    current: Mapping[str, str], published: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    for version, texts in published.items():
        for file, old in texts.items():
            if file not in current:
                yield Finding(file, version, "published, but no longer in use")
                continue
            for problem in find_incompatibilities(old, current[file]):
                yield Finding(file, version, problem)


def _find_unpublished(
    current: Mapping[str, str], published: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    """Report current schemas without a copy in `published`.

    Later readers need the copy, because values of this schema stay in the topics.
    """
    for file, text in current.items():
        copies = [_canonical_form(texts[file]) for texts in published.values() if file in texts]
        form = _canonical_form(text)
        if form is not None and form not in copies:
            number = max(map(int, filter(str.isdecimal, published)), default=0) + 1
            yield Finding(file, "current", f"not published yet: copy it to published/{number}/")


def _parse(text: str) -> avro.schema.Schema:
    with warnings.catch_warnings():
        # Readers ignore a logical type that does not fit its type, and so does this check.
        warnings.simplefilter("ignore", avro.errors.IgnoredLogicalType)
        return avro.schema.parse(text)


def _canonical_form(text: str) -> str | None:
    try:
        return str(_parse(text).canonical_form)
    except avro.errors.AvroException:
        return None


def _check_schema(file: str, text: str) -> Iterator[Finding]:
    """Check a schema by itself: it is Avro, and every record and field has a `doc`."""
    try:
        _parse(text)
    except avro.errors.AvroException as error:
        yield Finding(file, "current", f"not an Avro schema: {error}")
        return
    for path in _undocumented(json.loads(text), ""):
        yield Finding(file, "current", f"{path} has no doc")


def _undocumented(node: object, path: str) -> Iterator[str]:
    for record, record_path in _records(node, path):
        if not str(record.get("doc", "")).strip():
            yield record_path or str(record["name"])
        for field in record["fields"]:
            if not str(field.get("doc", "")).strip():
                yield _join(record_path, field)


def _records(node: object, path: str) -> Iterator[tuple[Node, str]]:
    """Yield every record in a schema, with its path."""
    match node:
        case list():
            for branch in node:
                yield from _records(branch, path)
        case dict() if node["type"] == "record":
            yield node, path
            for field in node["fields"]:
                yield from _records(field["type"], _join(path, field))
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            yield from _records(inner, f"{path}[]")
        case {"type": (dict() | list()) as inner}:
            yield from _records(inner, path)
        case _:
            return


def _join(path: str, field: Node) -> str:
    return f"{path}.{field['name']}".lstrip(".")


def _resolution_errors(
    reader: avro.schema.Schema, writer: avro.schema.Schema, *, case: str
) -> Iterator[str]:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader, writer)
    if result.compatibility is not SchemaCompatibilityType.compatible:
        kinds = ", ".join(sorted({kind.value for kind in result.incompatibilities}))
        yield f"{case} fails: {kinds.replace('_', ' ')} ({'; '.join(sorted(result.messages))})"


def _changed_meanings(old: object, new: object, path: str) -> Iterator[str]:
    """Report changes that resolution allows although they change the meaning of a value."""
    before, after = _branches(old), _branches(new)
    for kind in before.keys() & after.keys():
        yield from _changed_branch(before[kind], after[kind], path)
    if (
        before.keys() & _INTERCHANGEABLE
        and after.keys() & _INTERCHANGEABLE
        and not before.keys() & after.keys() & _INTERCHANGEABLE
    ):
        yield f"{path} is now {_text_or_bytes(after)} and was {_text_or_bytes(before)}"


def _changed_branch(old: Node, new: Node, path: str) -> Iterator[str]:
    was, now = old.get("logicalType"), new.get("logicalType")
    if was != now:
        yield f"{path} has logical type {now or 'none'} and had {was or 'none'}"
    if old["type"] in _NAMED and _full_name(old) != _full_name(new):
        yield f"{path or 'the record'} is named {_full_name(new)} and was {_full_name(old)}"
    if old["type"] == "enum" and old.get("default") != new.get("default"):
        yield f"{path} has enum default {new.get('default')} and had {old.get('default')}"
    for inner in ("items", "values"):
        if inner in old and inner in new:
            yield from _changed_meanings(old[inner], new[inner], f"{path}[]")
    if old["type"] == "record":
        yield from _changed_fields(old, new, path)


def _changed_fields(old: Node, new: Node, path: str) -> Iterator[str]:
    before = {field["name"]: field for field in old["fields"]}
    for field in new["fields"]:
        old_field = before.get(field["name"])
        if old_field is None:
            continue
        field_path = _join(path, field)
        # Resolution decides about a default that is added or removed. A changed default gives old
        # values another meaning.
        both = "default" in old_field and "default" in field
        if both and old_field["default"] != field["default"]:
            yield f"{field_path} has default {field['default']!r} and had {old_field['default']!r}"
        yield from _changed_meanings(old_field["type"], field["type"], field_path)


def _branches(node: object) -> dict[str, Node]:
    """The branches of a type by their kind: those of a union, or the one type."""
    if isinstance(node, list):
        return {kind: branch for item in node for kind, branch in _branches(item).items()}
    if isinstance(node, str):
        return {node: {"type": node}}
    if isinstance(node, dict):
        inner = node["type"]
        return _branches(inner) if isinstance(inner, dict | list) else {str(inner): node}
    raise TypeError(f"not an Avro type: {type(node).__name__}")


def _text_or_bytes(branches: Mapping[str, Node]) -> str:
    return " or ".join(sorted(branches.keys() & _INTERCHANGEABLE))


def _full_name(node: Node) -> str:
    namespace = node.get("namespace")
    return f"{namespace}.{node['name']}" if namespace else str(node["name"])


def _folders(folder: Traversable) -> list[Traversable]:
    return [item for item in folder.iterdir() if item.is_dir()] if folder.is_dir() else []


def _version_number(folder: Traversable) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdecimal() else 0, folder.name)


def _read_schemas(folder: Traversable) -> dict[str, str]:
    return {
        item.name: item.read_text(encoding="utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".avsc")
    }
