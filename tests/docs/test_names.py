"""The pages on providers, content, settings and the front door name what exists in the tree.

Every path in backticks is a file or a folder, and every class in backticks is defined in the code.
"""

import builtins
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "producer", "consumers", "audit", "comms", "tests")
PAGES = ("adding-a-provider", "content", "front-door", "providers", "settings")


def quoted(page: str) -> set[str]:
    """Return the texts in backticks of a page, without its code blocks."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", prose))


@cache
def defined_classes() -> frozenset[str]:
    """Return the names of all classes, records of Avro and type aliases in the tree."""
    sources = [path.read_text("utf-8") for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    schemas = [path.read_text("utf-8") for path in (ROOT / "schemas").glob("*.avsc")]
    classes = {name for text in sources for name in re.findall(r"^class (\w+)", text, re.MULTILINE)}
    aliases = {name for text in sources for name in re.findall(r"^(\w+) = ", text, re.MULTILINE)}
    records = {name for text in schemas for name in re.findall(r'"name": "(\w+)"', text)}
    return frozenset(classes | aliases | records)


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page: str) -> None:
    path = re.compile(rf"(?:{'|'.join(PACKAGES)})/[\w./-]+")
    named = [text for text in quoted(page) if path.fullmatch(text)]
    assert [text for text in named if not (ROOT / text).exists()] == []


def test_modules_and_classes_of_the_sdk_exist() -> None:
    named = {text for text in quoted("adding-a-provider") if text.startswith("consumers.")}
    assert named
    for name in named:
        module, _, last = name.rpartition(".")
        folder = ROOT / module.replace(".", "/")
        is_module = (folder / f"{last}.py").exists() or (folder / last).is_dir()
        assert is_module or last in defined_classes(), name


def test_classes_exist() -> None:
    camel = re.compile(r"(?:[A-Z][a-z]+){2,}")
    named = {match for text in quoted("adding-a-provider") for match in camel.findall(text)}
    assert "ProviderType" in named
    assert named <= defined_classes() | set(dir(builtins))
