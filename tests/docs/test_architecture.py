"""docs/architecture.md names files, functions and packages that exist, and the layers that hold."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, blocks

PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
PATHS_IN = (*PAGES, ROOT / "CONTRIBUTING.md")


def walk() -> list[tuple[str, str]]:
    """Return the file and the function of each step of the walk."""
    table = TEXT.split("<!-- walk:begin -->")[1].split("<!-- walk:end -->")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[2:4]] for line in table.splitlines()[4:]]
    return [(row[0], row[1]) for row in rows if len(row) == 2]


def definitions(path: Path) -> set[str]:
    """Return the names of a module's classes, functions, and methods as `Class.method`."""
    names = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (
                m for m in node.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)
            )
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


@pytest.mark.parametrize(("file", "function"), walk())
def test_walk_names_functions_that_exist(file: str, function: str) -> None:
    assert (ROOT / file).is_file()
    if function:
        assert function in definitions(ROOT / file)


def test_walk_reaches_from_the_request_to_the_audit_row() -> None:
    files = [file for file, _ in walk()]
    assert files.index("producer/api.py") < files.index("audit/merge.sql") < len(files)


def test_layers_of_consumers_are_those_that_make_imports_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["consumers"]
    )
    (block,) = (block for block in blocks() if block.page == PAGE and "sdk  " in block.text)
    shown = [re.split(r" {2,}", line)[0] for line in block.text.splitlines()]
    assert [packages(line) for line in shown] == [packages(layer) for layer in contract["layers"]]


def packages(line: str) -> set[str]:
    """Return the packages of one layer."""
    return set(re.findall(r"\w+", line))


@pytest.mark.parametrize("page", PATHS_IN, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"`((?:schemas|producer|consumers|audit|comms|tests)/[\w./*-]*)`", prose)
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []
