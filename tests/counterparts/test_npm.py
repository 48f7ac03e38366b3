"""npm where it cannot do what it is asked: that is told, and not waited for."""

from pathlib import Path

import pytest

from comms.stack.errors import EngineError
from tests.consumers.contract.samples import closed_port
from tests.counterparts import npm

pytestmark = pytest.mark.node


def test_a_registry_that_nobody_answers_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{closed_port()}/")
    with pytest.raises(EngineError, match=r"npm pack failed: .*ECONNREFUSED"):
        npm.run("pack", npm.DIRECTORY, cwd=tmp_path)


def test_a_program_that_is_not_here_is_told_with_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"node is needed.*apt install nodejs npm"):
        npm.run("pack", npm.DIRECTORY, cwd=tmp_path)
