"""The table of docs/architecture.md that says who owns which object of the database."""

from pathlib import Path

from tests.ownership.objects import OBJECTS, SERVICES, DatabaseObject

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
BEGIN, END = "<!-- ownership:begin -->", "<!-- ownership:end -->"
_NOTE = "<!-- Written by `python -m tests.ownership` from tests/ownership/objects.py. -->"


def table() -> str:
    """Return the table in Markdown."""
    lines = [
        _NOTE,
        "",
        "| object | kind | published to | written by | read by |",
        "|---|---|---|---|---|",
        *map(_row, OBJECTS),
    ]
    return "\n".join(lines)


def table_in(page: str) -> str:
    """Return what stands between the marks of the page."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def with_table(page: str) -> str:
    """Return the page with the table of today between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no {BEGIN} with an {END} after it")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _row(item: DatabaseObject) -> str:
    published = (
        "every service" if item.published_to == SERVICES else ", ".join(sorted(item.published_to))
    )
    cells = (f"`{item.name}`", item.kind, published, item.writers, item.readers)
    return "| " + " | ".join(cells) + " |"
