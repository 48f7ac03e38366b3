"""Kinds of providers that tests add, as any package elsewhere would: by an entry point."""

from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str, leads_to: str) -> None:
    """Make a kind known.

    Args:
        name: of it, as `sms.pager`; leads_to: the object, as `module:NAME`.
    """
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[comms.providers]\n{name} = {leads_to}\n")
    monkeypatch.syspath_prepend(folder)
