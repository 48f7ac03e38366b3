"""What commands print: data on standard output, everything else on standard error.

With `--json` the data is one JSON document and nothing else, so that it can be piped.
"""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_WIDE = 220  # where nobody's terminal bounds a line, nothing is cut

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
    """The document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def console() -> Console:
    """Standard output, for people."""
    return _console(stderr=False)


def notes() -> Console:
    """Standard error, for what is not the data: progress, warnings, bad rows."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def table(*columns: str) -> Table:
    """An empty table in the one style; the first column is never broken or cut."""
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for n, column in enumerate(columns):
        made.add_column(column, no_wrap=n == 0, overflow="fold")
    return made


def coloured(word: str, *, beside: str = "") -> Text:
    """A status or readiness in its colour, with a word of explanation."""
    text = Text(word, style=COLOUR_OF.get(word, ""))
    return text.append(f" {beside}", style="dim") if beside and beside != word else text


def plain(value: object) -> Text:
    """A value as it is: what others wrote is never read as markup or control characters."""
    shown = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() else " " for c in shown))


def moment(text: str | None) -> str:
    """An RFC 3339 time on this machine's clock, to the millisecond."""
    if not text:
        return ""
    at = datetime.fromisoformat(text).astimezone()
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def entry(document: Any, name: str) -> Any:
    """`document[name]`, or None where it is not there."""
    return document.get(name) if isinstance(document, dict) else None
