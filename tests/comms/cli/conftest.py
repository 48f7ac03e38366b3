"""Fixtures for the tests of the command line: a fake API, and a function that runs a command."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from comms.cli import main
from tests.comms.cli.fake_api import KEY, FakeApi, serving


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeApi]:
    """A fake API, with its address and key in the environment."""
    with serving(FakeApi()) as served:
        monkeypatch.setenv("COMMS_URL", served.url)
        monkeypatch.setenv("COMMS_API_KEY", KEY)
        monkeypatch.setenv("COMMS_DATA_DIR", str(tmp_path / "data"))
        yield served


@pytest.fixture
def comms(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command in this process and returns what it printed."""

    def run(*arguments: str | Path) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return run
