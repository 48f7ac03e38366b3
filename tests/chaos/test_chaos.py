"""A short chaos run, and proof that its checker finds planted bugs.

Each test is a whole run of a minute or so, in its own processes. `make test-all` runs them.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.chaos


def chaos(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run to the end and return the result with its output."""
    command = [sys.executable, "-m", "tests.chaos", "--keep", str(folder / "world"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)


def figure(report: str, name: str) -> int:
    """Read a figure from the report."""
    match = re.search(rf"^{name} +(\d+)", report, re.MULTILINE)
    assert match is not None, report
    return int(match.group(1))


def test_a_short_run_is_clean(tmp_path: Path) -> None:
    done = chaos(tmp_path, "--seed", "20261125", "--faults", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert figure(done.stdout, "accepted") > 500
    assert figure(done.stdout, "final") == figure(done.stdout, "accepted")


@pytest.mark.parametrize(
    ("plant", "only", "faults", "findings"),
    [
        # Messages of the front door are lost. Messages of the outbox are published again by the
        # relay, but later than this run waits.
        ("commit-on-fetch", "consumer killed in a call", 4, ["lost", "in flight"]),
        ("skip-the-claim", "consumer killed in a call", 2, ["undeclared"]),
        ("drop-the-sweep", "broker emptied with a backlog", 2, ["in flight"]),
    ],
)
def test_the_checker_finds_planted_bugs(
    tmp_path: Path, plant: str, only: str, faults: int, findings: list[str]
) -> None:
    arguments = ["--plant", plant, "--only", only, "--faults", str(faults), "--seed", "5"]
    done = chaos(tmp_path, *arguments, "--patience", "30")
    assert done.returncode == 1, done.stdout + done.stderr
    assert sum(figure(done.stdout, finding) for finding in findings) > 0, done.stdout
    assert "BROKEN: make chaos SEED=5" in done.stdout
