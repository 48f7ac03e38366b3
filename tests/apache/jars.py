"""Apache Kafka's jars, as Maven fetches them: once a version, kept in the environment's folder.

`tests.apache.server` asks for the class path. `python -m tests.apache.jars` fetches them ahead of
everything else and says what is wrong where it cannot; `.ci/run` asks it whether Maven Central
answers at all. The version is the one of `pom.xml` unless `COMMS_TEST_KAFKA_VERSION` names another.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from comms.stack.errors import EngineError

POM = Path(__file__).with_name("pom.xml")
MAVEN_SECONDS = 300
UNREACHABLE = 75  # the exit code that says: no fault of ours, and another time it may work
_NO_ANSWER = re.compile(
    "could not transfer|unknown host|unreachable|connection refused|timed out|name resolution",
    re.IGNORECASE,
)
_INSTALL_HINT = "on Debian and Ubuntu: apt install maven default-jre-headless"


class UnreachableError(EngineError):
    """Where Maven fetches from does not answer."""


def version() -> str:
    """The version of Kafka that is tested."""
    asked = os.environ.get("COMMS_TEST_KAFKA_VERSION")
    found = re.search(r"<kafka.version>(.+)</kafka.version>", POM.read_text(encoding="utf-8"))
    assert found is not None
    return asked or found[1]


def java() -> str:
    """The Java that runs Kafka.

    Raises:
        EngineError: there is none.
    """
    return _program("java")


def class_path() -> str:
    """What to give to `java -cp`; fetched by Maven where it is not here yet.

    Raises:
        UnreachableError: nobody answered Maven.
        EngineError: Java or Maven is missing, or Maven could not fetch the jars.
    """
    folder = Path(sys.prefix) / "apache-kafka" / version()
    if not folder.is_dir():
        _fetch(folder)
    return str(folder / "*")


def _fetch(folder: Path) -> None:
    """Into a folder beside it first: one that is there is whole, whoever else fetches too."""
    java()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        argv = (
            *(_program("mvn"), "--batch-mode", "--quiet", "--no-transfer-progress"),
            *("--file", str(POM), f"-Dkafka.version={version()}"),
            *("dependency:copy-dependencies", "-DincludeScope=runtime"),
            f"-DoutputDirectory={partial}/jars",
        )
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=MAVEN_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            said = f"Maven did not fetch Kafka within {MAVEN_SECONDS} s"
            raise UnreachableError(said) from None
        if done.returncode:
            kind = UnreachableError if _NO_ANSWER.search(done.stdout) else EngineError
            raise kind(f"Maven could not fetch Kafka {version()}: {_complaint(done.stdout)}")
        if not folder.is_dir():
            (Path(partial) / "jars").replace(folder)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise EngineError(f"Apache Kafka needs {name}, and it is not here; {_INSTALL_HINT}")
    return found


def _complaint(said: str) -> str:
    """Maven's first line of error, without its colours and its mark."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in said.splitlines()]
    errors = (line.removeprefix("[ERROR] ") for line in lines if line.startswith("[ERROR]"))
    return next(errors, "it said nothing")


def main() -> int:
    """Fetch the jars; the exit code tells whether they are there and, if not, whose fault it is."""
    try:
        print(f"Apache Kafka {version()}: {class_path()}")  # noqa: T201 - for people and CI
    except EngineError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return UNREACHABLE if isinstance(error, UnreachableError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
