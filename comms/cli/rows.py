"""Messages from a file, one row at a time, with the line each stands on.

`comms.cli.bulk` reads a CSV or JSON Lines file through `read`. A row that is no message comes as a
`BadRow` and the reading goes on; the file is never held in memory. Each row gets its idempotency
key here: its own, or one derived from its content, so that the same file sent again is the same
messages.
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
from comms.cli.fields import COMMON, FIELDS_OF, Content, fields_of, value_of
from schemas.vocabulary import Channel

LARGEST_CELL = 16 * 1024 * 1024  # characters; attachments stand in cells too
_SHORT = {"key": "idempotency_key", "customer": "customer_id"}  # as the options are called

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A message to be posted, and the line it stands on."""

    line: int
    content: Content


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no message, and why."""

    line: int
    problem: str


class Keys:
    """Idempotency keys for rows that bring none, derived from what they say.

    Identical rows are told apart by how many went before; the counts are kept in a scratch file
    that the system removes, since a file may have more rows than memory.

    Args:
        name: of this sending; the same rows under another name are other messages.
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

    def of(self, content: Content) -> str:
        """The key of the next row that says `content`."""
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
    """The rows of a file.

    Args:
        defaults: fields for rows that leave them out.
        progress: told how many bytes of the file each line had.

    Raises:
        CommandError: the file cannot be read, or its columns are unknown.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CommandError(f"{path}: name it .csv or .jsonl, so that its format is known")
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for row in reader(_counted(file, progress), channel):
                yield row if isinstance(row, BadRow) else _complete(row, channel, defaults, keys)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error


def _counted(file: TextIO, progress: Progress) -> Iterator[str]:
    for line in file:
        progress(len(line.encode("utf-8", "surrogateescape")))
        yield line


def _complete(row: Row, channel: Channel, defaults: Mapping[str, Any], keys: Keys) -> Row | BadRow:
    content = {**defaults, "channel": channel.value, **row.content}
    if content["channel"] != channel.value:
        return BadRow(row.line, f"channel: is not {channel}")
    try:
        json.dumps(content, ensure_ascii=False).encode()
        if not content.get("idempotency_key"):
            content["idempotency_key"] = keys.of(content)
    except UnicodeEncodeError:
        return BadRow(row.line, "is not UTF-8")
    return Row(row.line, content)


def _jsonl(lines: Iterable[str], channel: Channel) -> Iterator[Row | BadRow]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            yield BadRow(number, "is not JSON")
            continue
        if isinstance(document, dict):
            yield Row(number, {_full(str(name)): value for name, value in document.items()})
        else:
            yield BadRow(number, "is not a JSON object")


def _full(name: str) -> str:
    return _SHORT.get(name) or name


def _csv(lines: Iterable[str], channel: Channel) -> Iterator[Row | BadRow]:
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(lines)
    columns = _columns(reader, channel)
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
            yield _row(line, columns, cells, channel)


def _columns(reader: Iterator[list[str]], channel: Channel) -> list[str]:
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CommandError(f"line 1: is not CSV: {error}") from error
    if not header:
        raise CommandError("line 1: there are no column names")
    names = [_full(cell.strip().lower()) for cell in header]
    known = fields_of(channel)
    for name in names:
        if name not in known:
            words = ", ".join((*FIELDS_OF[channel], *COMMON))
            raise CommandError(f"line 1: unknown column {name!r}; {channel} has {words}")
    if len(set(names)) != len(names):
        raise CommandError("line 1: a column stands there twice")
    return names


def _row(line: int, columns: list[str], cells: list[str], channel: Channel) -> Row | BadRow:
    if len(cells) != len(columns):
        return BadRow(line, f"has {len(cells)} cells, and the header has {len(columns)}")
    content: Content = {}
    for name, cell in zip(columns, cells, strict=True):
        if not cell.strip():
            continue
        try:
            content[name] = value_of(channel, name, cell if name in _TEXTS else cell.strip())
        except ValueError as error:
            return BadRow(line, f"{name}: {error}")
    return Row(line, content)


_TEXTS = frozenset({"body", "text", "html"})  # spaces around them are the sender's business
