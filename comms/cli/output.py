"""What commands print: data on standard output, everything else on standard error.

With `--json` the data is one JSON document and nothing else, so that it can be piped. Every command
that prints data uses these helpers.
"""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_WIDTH_WITHOUT_TERMINAL = 220  # wide enough that nothing is cut

COLOUR_OF: Mapping[str, str] = {
    "pending": "cyan",
    "sending": "blue",
    "sent": "green",
    "delivered": "bold green",
    "failed": "bold red",
    "cancelled": "dim",
    "unknown": "bold yellow",
    "live": "bold green",
    "simulated": "green",
    "probed": "cyan",
    "configured": "cyan",
    "setup_needed": "yellow",
    "degraded": "bold red",
    "paused": "bold yellow",
}


def print_json(document: object) -> None:
    """Print the document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def console() -> Console:
    """Return a console for the data, on standard output."""
    return _console(stderr=False)


def notes() -> Console:
    """Return a console for progress, warnings and rejected rows, on standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar on standard error, shown only in a terminal and removed at the end.

    Args:
        columns: what to show beside the description and the bar.
    """
    stream = notes()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=stream,
        disable=not stream.is_terminal,
        transient=True,
    )


def table(*columns: str) -> Table:
    """Return an empty table in the common style; its first column is never wrapped or cut."""
    rows = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for n, column in enumerate(columns):
        rows.add_column(column, no_wrap=n == 0, overflow="fold")
    return rows


def coloured(word: str, *, beside: str = "") -> Text:
    """Return a status or readiness in its colour, with an explanation beside it."""
    text = Text(word, style=COLOUR_OF.get(word, ""))
    return text.append(f" {beside}", style="dim") if beside and beside != word else text


def plain(value: object) -> Text:
    """Return a value as plain text: markup and control characters in it have no effect."""
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() else " " for c in text))


def local_time(text: str | None) -> str:
    """Convert an RFC 3339 time to the local time zone, to the millisecond."""
    if not text:
        return ""
    at = datetime.fromisoformat(text).astimezone()
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def entry(document: Any, name: str) -> Any:
    """Return `document[name]`, or None if the document has no such entry."""
    return document.get(name) if isinstance(document, dict) else None
