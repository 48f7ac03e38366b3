"""Fetches the jars of Apache Kafka with Maven, once per version, into the environment's folder.

`tests.apache.server` needs the class path. `python -m tests.apache.jars` fetches the jars ahead of
the tests and prints the cause if it fails. Its exit code tells `.ci/run` whether Maven Central
responds. The version is that of `pom.xml`, unless `COMMS_TEST_KAFKA_VERSION` names another.
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
UNREACHABLE = 75  # exit code: the source does not respond, and a later run may succeed
_UNREACHABLE_MESSAGES = re.compile(
    "could not transfer|unknown host|unreachable|connection refused|timed out|name resolution",
    re.IGNORECASE,
)
_INSTALL_HINT = "on Debian and Ubuntu: apt install maven default-jre-headless"


class UnreachableError(EngineError):
    """The repository that Maven fetches from does not respond."""


def version() -> str:
    """The version of Kafka to test on."""
    from_environment = os.environ.get("COMMS_TEST_KAFKA_VERSION")
    in_pom = re.search(r"<kafka.version>(.+)</kafka.version>", POM.read_text(encoding="utf-8"))
    assert in_pom is not None
    return from_environment or in_pom[1]


def java() -> str:
    """Path of the `java` program.

    Raises:
        EngineError: Java is not installed.
    """
    return _program("java")


def class_path() -> str:
    """The argument of `java -cp`. Maven fetches the jars if they are not here yet.

    Raises:
        UnreachableError: the repository did not respond.
        EngineError: Java or Maven is missing, or Maven could not fetch the jars.
    """
    folder = Path(sys.prefix) / "apache-kafka" / version()
    if not folder.is_dir():
        _fetch(folder)
    return str(folder / "*")


def _fetch(folder: Path) -> None:
    """Fetch the jars into `folder`.

    They are fetched into a folder next to it, which is then renamed. So an existing `folder` is
    always complete, even if several processes fetch at the same time.
    """
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
            maven = subprocess.run(
                argv, capture_output=True, text=True, timeout=MAVEN_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            message = f"Maven did not fetch Kafka within {MAVEN_SECONDS} s"
            raise UnreachableError(message) from None
        if maven.returncode:
            is_unreachable = _UNREACHABLE_MESSAGES.search(maven.stdout)
            error = UnreachableError if is_unreachable else EngineError
            raise error(f"Maven could not fetch Kafka {version()}: {_first_error(maven.stdout)}")
        if not folder.is_dir():
            (Path(partial) / "jars").replace(folder)


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise EngineError(f"Apache Kafka needs {name}, which is not installed; {_INSTALL_HINT}")
    return path


def _first_error(output: str) -> str:
    """Maven's first error line, without colours and without its prefix."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    errors = (line.removeprefix("[ERROR] ") for line in lines if line.startswith("[ERROR]"))
    return next(errors, "it printed no error")


def main() -> int:
    """Fetch the jars. The exit code is 0, 75 if the source does not respond, or 1."""
    try:
        print(f"Apache Kafka {version()}: {class_path()}")  # noqa: T201 - for people and CI
    except EngineError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return UNREACHABLE if isinstance(error, UnreachableError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
