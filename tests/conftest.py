"""Makes the fixtures of `tests.engines` available to every test, and orders parallel runs."""

import os
from collections import defaultdict

import pytest

from tests.engines import (
    broker,
    database_url,
    kafka_bootstrap,
    new_engine,
    postgres_url,
    template_database,
)

__all__ = [
    "broker",
    "database_url",
    "kafka_bootstrap",
    "new_engine",
    "postgres_url",
    "template_database",
]

# Fixtures and markers of slow files.
_SLOWEST_FIRST = (
    frozenset({"chaos"}),
    frozenset({"broker", "kafka_bootstrap", "new_engine", "apache"}),
    frozenset({"postgres_url"}),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a worker of pytest-xdist, put the slow files first.

    Workers take whole files in this order: chaos runs, files that need a broker, files that need a
    database, the others. If a slow file came last, the other workers would be idle meanwhile.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    needs: defaultdict[object, set[str]] = defaultdict(set)
    for item in items:
        needs[item.path].update(getattr(item, "fixturenames", ()))
        needs[item.path].update(marker.name for marker in item.iter_markers())

    def rank(item: pytest.Item) -> int:
        return next((n for n, names in enumerate(_SLOWEST_FIRST) if needs[item.path] & names), 3)

    items.sort(key=rank)
