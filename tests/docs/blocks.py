"""The code blocks of README.md and docs/: found in the pages, with what their tags ask for.

`test_code_blocks` runs them. CONTRIBUTING.md explains the tags to authors.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
LANGUAGES = frozenset({"sh", "python", "sql", "toml", "json", "text"})
NOT_RUN = "not run: "
OUTPUT = "output"
ADMINISTRATOR = "as administrator"

_FENCED = re.compile(r"^(?P<indent> *)```(?P<tag>[^\n]*)\n(?P<body>.*?)^ *```$", re.M | re.S)
_LIST_ITEM = re.compile(r" *([-*]|\d+\.) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page.

    Args:
        line: the number of the line of the opening fence.
        mode: what follows the language in the tag.
        output: the text of the `json output` block that follows directly, if there is one.
    """

    page: Path
    line: int
    language: str
    mode: str
    text: str
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def reason_not_run(self) -> str | None:
        """Why the block is not run, as its tag says."""
        return self.mode.removeprefix(NOT_RUN) if self.mode.startswith(NOT_RUN) else None


def blocks() -> list[Block]:
    """Return the blocks of all pages, in their order."""
    return [block for page in PAGES for block in _with_outputs(list(_blocks_of(page)))]


def indented_code(page: Path) -> list[int]:
    """Return the numbers of the lines that Markdown would show as an indented code block."""
    text = _FENCED.sub(lambda match: "\n" * match[0].count("\n"), page.read_text("utf-8"))
    lines = text.splitlines()
    numbers, in_list = list[int](), False
    for number, (previous, line) in enumerate(pairwise(["", *lines]), start=1):
        if line.strip() and not line.startswith(" "):
            in_list = bool(_LIST_ITEM.match(line))
        elif line.startswith("    ") and not previous.strip() and not in_list:
            numbers.append(number)
    return numbers


def _blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCED.finditer(text):
        language, _, mode = match["tag"].strip().partition(" ")
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=language,
            mode=mode.strip(),
            text=re.sub(rf"^{match['indent']}", "", match["body"], flags=re.MULTILINE),
        )


def _with_outputs(found: list[Block]) -> Iterator[Block]:
    for n, block in enumerate(found):
        following = found[n + 1] if n + 1 < len(found) else None
        has_output = following is not None and following.mode == OUTPUT
        yield Block(
            page=block.page,
            line=block.line,
            language=block.language,
            mode=block.mode,
            text=block.text,
            output=following.text if following is not None and has_output else None,
        )
