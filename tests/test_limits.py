"""The size limits that ruff has no rule for: the lines of a function and of a file.

`make test` holds every Python file of the project to them. The other limits of CONTRIBUTING.md
(nesting, complexity, positional arguments, docstrings) are rules of ruff, in `pyproject.toml`.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FUNCTION_LINES = 60
FILE_LINES = 400


def too_long(source: str) -> Iterator[str]:
    """Yield each function that is too long, methods and nested functions too, and the file itself.

    A function's lines are counted from `def` to its last line, with the docstring and without the
    decorators.
    """
    lines = len(source.splitlines())
    if lines > FILE_LINES:
        yield f"file: {lines} lines, at most {FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name}: {length} lines, at most {FUNCTION_LINES}"


def python_files() -> list[Path]:
    """The files of the packages that mypy checks: the product, the tests and the benchmarks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages: list[str] = project["tool"]["mypy"]["packages"]
    return [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]


def function(lines: int, *, prefix: str = "def", indent: str = "") -> str:
    body = f"{indent}    pass\n" * (lines - 1)
    return f"{indent}{prefix} planted():\n{body}"


def test_no_function_and_no_file_is_too_long() -> None:
    files = python_files()
    assert Path(__file__) in files
    assert [
        f"{file.relative_to(ROOT)}:{finding}"
        for file in files
        for finding in too_long(file.read_text(encoding="utf-8"))
    ] == []


def test_a_function_may_have_60_lines_and_not_61() -> None:
    assert list(too_long(function(60))) == []
    assert list(too_long(function(61))) == ["1: planted: 61 lines, at most 60"]


def test_methods_and_nested_functions_are_counted() -> None:
    method = "class Planted:\n" + function(61, prefix="async def", indent="    ")
    assert list(too_long(method)) == ["2: planted: 61 lines, at most 60"]
    nested = "def outer():\n" + function(61, indent="    ")
    assert list(too_long(nested)) == [
        "1: outer: 62 lines, at most 60",
        "2: planted: 61 lines, at most 60",
    ]


def test_a_file_may_have_400_lines_and_not_401() -> None:
    assert list(too_long("pass\n" * 400)) == []
    assert list(too_long("pass\n" * 401)) == ["file: 401 lines, at most 400"]
