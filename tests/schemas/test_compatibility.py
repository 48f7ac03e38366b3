"""The compatibility check finds every kind of change that breaks old or new readers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import FILE_OF, source_of
from schemas.compatibility import Finding, check, find_incompatibilities

Schema = dict[str, Any]
Change = Callable[[Schema], object]

OLD: Schema = {
    "type": "record",
    "name": "Visit",
    "namespace": "example",
    "doc": "A visit.",
    "fields": [
        {"name": "id", "type": "string", "doc": "Which."},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}, "doc": "When."},
        {"name": "note", "type": ["null", "string"], "default": None, "doc": "A note."},
        {"name": "hours", "type": "int", "default": 1, "doc": "How long."},
        {
            "name": "kind",
            "type": {
                "type": "enum",
                "name": "Kind",
                "symbols": ["REPAIR", "CHECK"],
                "default": "CHECK",
            },
            "default": "CHECK",
            "doc": "What for.",
        },
        {
            "name": "parts",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Part",
                    "doc": "A part.",
                    "fields": [{"name": "number", "type": "string", "doc": "Its number."}],
                },
            },
            "default": [],
            "doc": "What is used.",
        },
    ],
}


def apply(change: Change) -> str:
    """Return the schema after a change of its parsed JSON."""
    schema: Schema = json.loads(json.dumps(OLD))
    change(schema)
    return json.dumps(schema)


def field(schema: Schema, name: str) -> Schema:
    """Return the field with this name."""
    match: Schema = next(item for item in schema["fields"] if item["name"] == name)
    return match


def remove(schema: Schema, name: str) -> None:
    """Remove a field."""
    schema["fields"].remove(field(schema, name))


COMPATIBLE: dict[str, Change] = {
    "nothing": lambda _: None,
    "another doc": lambda s: s.update(doc="A visit by a technician."),
    "a field added with a default": lambda s: s["fields"].append(
        {"name": "by", "type": ["null", "string"], "default": None, "doc": "Who."}
    ),
    "a field with a default removed": lambda s: remove(s, "note"),
    "a default added": lambda s: field(s, "id").update(default=""),
}

INCOMPATIBLE: dict[str, tuple[Change, str]] = {
    "a field without a default added": (
        lambda s: s["fields"].append({"name": "by", "type": "string", "doc": "Who."}),
        "a new reader of old values fails: reader field missing default value",
    ),
    "a field without a default removed": (
        lambda s: remove(s, "id"),
        "an old reader of new values fails: reader field missing default value",
    ),
    "a field renamed": (
        lambda s: field(s, "id").update(name="key"),
        "reader field missing default value",
    ),
    "the record renamed": (lambda s: s.update(name="Call"), "fails: name mismatch"),
    "the namespace changed": (
        lambda s: s.update(namespace="elsewhere"),
        "the record is named elsewhere.Visit and was example.Visit",
    ),
    "another type": (lambda s: field(s, "id").update(type="boolean"), "fails: type mismatch"),
    "a wider type, which only new readers can read": (
        lambda s: field(s, "hours").update(type="long"),
        "an old reader of new values fails: type mismatch",
    ),
    "a branch added to a union": (
        lambda s: field(s, "note").update(type=["null", "string", "int"]),
        "an old reader of new values fails: missing union branch",
    ),
    "a branch removed from a union": (
        lambda s: field(s, "note").update(type=["null"]),
        "a new reader of old values fails: missing union branch",
    ),
    "another logical type": (
        lambda s: field(s, "at").update(type={"type": "long", "logicalType": "timestamp-millis"}),
        "at has logical type timestamp-millis and had timestamp-micros",
    ),
    "the logical type removed": (
        lambda s: field(s, "at").update(type="long"),
        "at has logical type none and had timestamp-micros",
    ),
    "bytes in place of text": (
        lambda s: field(s, "note").update(type=["null", "bytes"]),
        "note is now bytes and was string",
    ),
    "another default": (
        lambda s: field(s, "hours").update(default=2),
        "hours has default 2 and had 1",
    ),
    "another default of an enum": (
        lambda s: field(s, "kind")["type"].update(default="REPAIR"),
        "kind has enum default REPAIR and had CHECK",
    ),
    "a symbol removed from an enum without a default": (
        lambda s: field(s, "kind").update(
            type={"type": "enum", "name": "Kind", "symbols": ["CHECK"]}
        ),
        "a new reader of old values fails: missing enum symbols",
    ),
    "a field added without a default, in a nested record": (
        lambda s: field(s, "parts")["type"]["items"]["fields"].append(
            {"name": "price", "type": "int", "doc": "Cents."}
        ),
        "a new reader of old values fails",
    ),
    "a nested record renamed": (
        lambda s: field(s, "parts")["type"]["items"].update(name="Piece"),
        "name mismatch",
    ),
    "another logical type in a nested record": (
        lambda s: field(s, "parts")["type"]["items"]["fields"][0].update(
            type={"type": "string", "logicalType": "uuid"}
        ),
        "parts[].number has logical type uuid and had none",
    ),
}


@pytest.mark.parametrize("name", COMPATIBLE)
def test_compatible_change_is_accepted(name: str) -> None:
    assert find_incompatibilities(json.dumps(OLD), apply(COMPATIBLE[name])) == []


@pytest.mark.parametrize("name", INCOMPATIBLE)
def test_incompatible_change_is_found(name: str) -> None:
    change, problem = INCOMPATIBLE[name]
    assert problem in "; ".join(find_incompatibilities(json.dumps(OLD), apply(change)))


def test_text_that_is_not_a_schema_is_found() -> None:
    broken = json.dumps({"type": "recrod", "name": "Visit"})
    (problem,) = find_incompatibilities(json.dumps(OLD), broken)
    assert problem.startswith("not an Avro schema")


def test_current_schemas_are_compatible_with_every_published_version() -> None:
    report = check()
    assert report.findings == ()
    assert report.schemas == len(FILE_OF)
    assert report.versions


def test_codec_has_a_schema_for_every_record_type() -> None:
    for record_type, name in FILE_OF.items():
        assert json.loads(source_of(record_type))["fields"], name


class TestAFolder:
    """The checks that need a whole folder of schemas."""

    def write(self, root: Path, current: str | None, **published: str) -> Path:
        """Write a folder with one schema and its published versions."""
        for version, text in published.items():
            folder = root / "published" / version.removeprefix("v")
            folder.mkdir(parents=True)
            (folder / "visit.avsc").write_text(text)
        if current is not None:
            (root / "visit.avsc").write_text(current)
        return root

    def test_every_version_is_compared_not_only_the_newest(self, tmp_path: Path) -> None:
        new = apply(lambda s: remove(s, "note"))
        oldest = apply(lambda s: field(s, "id").update(type="int"))
        findings = check(self.write(tmp_path, new, v1=oldest, v2=new, v10=new)).findings
        assert {finding.version for finding in findings} == {"1"}

    def test_versions_are_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        text = json.dumps(OLD)
        assert check(self.write(tmp_path, text, v10=text, v9=text)).versions == ("9", "10")

    def test_published_schema_must_not_disappear(self, tmp_path: Path) -> None:
        findings = check(self.write(tmp_path, None, v1=json.dumps(OLD))).findings
        assert findings == (Finding("visit.avsc", "1", "published, but no longer in use"),)

    def test_changed_schema_must_be_published(self, tmp_path: Path) -> None:
        new = apply(lambda s: remove(s, "note"))
        (finding,) = check(self.write(tmp_path, new, v1=json.dumps(OLD))).findings
        assert "copy it to published/2/" in finding.problem

    def test_doc_may_change_without_a_new_version(self, tmp_path: Path) -> None:
        new = apply(lambda s: s.update(doc="A visit by a technician."))
        assert check(self.write(tmp_path, new, v1=json.dumps(OLD))).findings == ()

    def test_field_without_a_doc_is_reported(self, tmp_path: Path) -> None:
        def remove_docs(schema: Schema) -> None:
            del field(schema, "at")["doc"]
            del field(schema, "parts")["type"]["items"]["fields"][0]["doc"]

        new = apply(remove_docs)
        problems = {f.problem for f in check(self.write(tmp_path, new, v1=new)).findings}
        assert problems == {"at has no doc", "parts[].number has no doc"}

    def test_broken_file_is_a_finding(self, tmp_path: Path) -> None:
        findings = check(self.write(tmp_path, "{", v1="{")).findings
        assert findings
        assert all(f.problem.startswith("not an Avro schema") for f in findings)
