"""Provider types that tests add, as any other package would: by an entry point."""

from collections.abc import Mapping
from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str, leads_to: str) -> None:
    """Add a provider type that exists in the tests.

    Args:
        folder: an empty folder.
        monkeypatch: of the test.
        name: the channel and the type, such as `sms.pager`.
        leads_to: the object, such as `module:NAME`.
    """
    _add_metadata(folder, package=name, entry_points={name: leads_to})
    monkeypatch.syspath_prepend(folder)


def add_package(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    module: str,
    source: str,
    names: Mapping[str, str],
) -> None:
    """Add a package of one module.

    Args:
        folder: an empty folder.
        monkeypatch: of the test.
        module: the module's name, which no other test uses.
        source: of the module.
        names: an object of the module for each channel and type.
    """
    entry_points = {name: f"{module}:{leads_to}" for name, leads_to in names.items()}
    _add_metadata(folder, package=module, entry_points=entry_points)
    (folder / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)


def _add_metadata(folder: Path, *, package: str, entry_points: Mapping[str, str]) -> None:
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {leads_to}\n" for name, leads_to in entry_points.items()]
    (metadata / "entry_points.txt").write_text("[comms.providers]\n" + "".join(lines))
