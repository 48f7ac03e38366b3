"""The counterparts, each started once for a module that asks for it.

One that is not to be had fails the tests that need it, and says what to install.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from comms.stack.errors import EngineError
from tests.counterparts import moto as amazon
from tests.counterparts import npm
from tests.counterparts.documents import DOCUMENTS


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[amazon.Moto]:
    """Amazon's services, with nothing in them when the module begins."""
    made = amazon.Moto(tmp_path_factory.mktemp("moto"))
    try:
        made.start()
    except EngineError as error:
        pytest.fail(f"{error}; make test-all installs moto", pytrace=False)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def documents() -> Mapping[str, Path]:
    """The files of all documents, by their names in the directory."""
    try:
        return npm.documents(one.file for one in DOCUMENTS.values())
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def packages() -> Path:
    """Where npm's packages are."""
    try:
        return npm.installed()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
