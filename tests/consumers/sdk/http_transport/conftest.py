"""Each test of the wire runs on both event loops: services use uvloop, which tells of failures in
other words than asyncio's own."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop

from tests.authority import trusted

__all__ = ["trusted"]

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops, by name."""
    return LOOPS
