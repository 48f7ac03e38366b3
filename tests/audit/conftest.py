"""What the audit tests share: a connection ready to merge, on a database of the test's own."""

from collections.abc import Iterator

import pytest

from audit import merge


@pytest.fixture
def connection(database_url: str) -> Iterator[merge.Connection]:
    with merge.connect(database_url) as opened:
        yield opened
