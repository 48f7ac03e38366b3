"""Messages from a file, one row at a time, with their line numbers.

`comms.cli.send` reads a CSV or JSON Lines file with `read`. A row that is not a message becomes a
`BadRow`, and reading continues. The file is never held in memory. Each row gets an idempotency key
here: the one in the file, or one derived from the content, so that the same file sent again sends
nothing twice.
"""

import csv
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from comms.cli.errors import CommandError
from comms.cli.fields import COMMON, FIELDS_OF, Content, fields_of, parse_value
from schemas.vocabulary import Channel

LARGEST_CELL = 16 * 1024 * 1024  # characters; a cell may hold attachments
_FIELD_OF_OPTION = {"key": "idempotency_key", "customer": "customer_id"}

# Spaces at the ends of these belong to the text.
_UNSTRIPPED = frozenset({"body", "text", "html"})

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A message to post, and its line number in the file."""

    line: int
    content: Content


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is not a message, and why."""

    line: int
    problem: str


class Keys:
    """Idempotency keys for rows without one, derived from their content; a context manager.

    Identical rows are distinguished by a counter. The counters are in a temporary SQLite database
    that is deleted when it is closed, because a file may have more rows than fit into memory.

    Args:
        name: the name of this run; the same rows under another name get other keys.
    """

    def __init__(self, name: str | None) -> None:
        self._name = name or ""
        self._counts = sqlite3.connect("")
        self._counts.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, n INT) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._counts.close()

    def next_key(self, content: Content) -> str:
        """Return the key of the next row with this content."""
        text = json.dumps([self._name, content], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).digest()
        ((ordinal,),) = self._counts.execute(
            "INSERT INTO seen VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n",
            (digest[:16],),
        ).fetchall()
        return f"row-{digest.hex()[:40]}-{ordinal}"


def read(
    path: Path, channel: Channel, *, defaults: Mapping[str, Any], keys: Keys, progress: Progress
) -> Iterator[Row | BadRow]:
    """Read the rows of a file.

    Args:
        defaults: values of fields that a row does not have.
        progress: called with the size of each line in bytes.

    Raises:
        CommandError: the file cannot be read, or has an unknown column.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CommandError(f"{path}: the name must end in .csv or .jsonl, which tells the format")
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for row in reader(_count_bytes(file, progress), channel):
                yield row if isinstance(row, BadRow) else _complete(row, channel, defaults, keys)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error


def _count_bytes(file: TextIO, progress: Progress) -> Iterator[str]:
    for line in file:
        progress(len(line.encode("utf-8", "surrogateescape")))
        yield line


def _complete(row: Row, channel: Channel, defaults: Mapping[str, Any], keys: Keys) -> Row | BadRow:
    content = {**defaults, "channel": channel.value, **row.content}
    if content["channel"] != channel.value:
        return BadRow(row.line, f"channel: must be {channel}, or left out")
    try:
        json.dumps(content, ensure_ascii=False).encode()
        if not content.get("idempotency_key"):
            content["idempotency_key"] = keys.next_key(content)
    except UnicodeEncodeError:
        return BadRow(row.line, "is not UTF-8")
    return Row(row.line, content)


def _read_jsonl(lines: Iterable[str], channel: Channel) -> Iterator[Row | BadRow]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            yield BadRow(number, "is not JSON")
            continue
        if isinstance(document, dict):
            yield Row(number, {_field_name(str(name)): value for name, value in document.items()})
        else:
            yield BadRow(number, "is not a JSON object")


def _field_name(name: str) -> str:
    return _FIELD_OF_OPTION.get(name) or name


def _read_csv(lines: Iterable[str], channel: Channel) -> Iterator[Row | BadRow]:
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(lines)
    columns = _read_header(reader, channel)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(line, f"is not CSV: {error}")
            continue
        if any(cell.strip() for cell in cells):
            yield _parse_row(line, columns, cells, channel)


def _read_header(reader: Iterator[list[str]], channel: Channel) -> list[str]:
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CommandError(f"line 1: is not CSV: {error}") from error
    if not header:
        raise CommandError("line 1: the first line must have the column names")
    names = [_field_name(cell.strip().lower()) for cell in header]
    fields = fields_of(channel)
    for name in names:
        if name not in fields:
            choices = ", ".join((*FIELDS_OF[channel], *COMMON))
            raise CommandError(f"line 1: unknown column {name!r}; {channel} has {choices}")
    for name in names:
        if names.count(name) > 1:
            raise CommandError(f"line 1: the column {name!r} appears twice")
    return names


def _parse_row(line: int, columns: list[str], cells: list[str], channel: Channel) -> Row | BadRow:
    if len(cells) != len(columns):
        return BadRow(line, f"has {len(cells)} cells instead of {len(columns)}")
    content: Content = {}
    for name, cell in zip(columns, cells, strict=True):
        if not cell.strip():
            continue
        try:
            content[name] = parse_value(
                channel, name, cell if name in _UNSTRIPPED else cell.strip()
            )
        except ValueError as error:
            return BadRow(line, f"{name}: {error}")
    return Row(line, content)
