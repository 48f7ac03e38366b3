"""The counterparts, each started once for a module that asks for it.

One that is not to be had fails the tests that need it, and says what to install.
"""

from collections.abc import Iterator

import pytest

from comms.stack.errors import EngineError
from tests.counterparts import moto as amazon


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[amazon.Moto]:
    """Amazon's services, with nothing in them when the module begins."""
    made = amazon.Moto(tmp_path_factory.mktemp("moto"))
    try:
        made.start()
    except EngineError as error:
        made.stop()
        pytest.fail(f"{error}; make test-all installs moto", pytrace=False)
    yield made
    made.stop()
