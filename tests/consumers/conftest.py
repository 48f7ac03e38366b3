"""The provider that tests call: the simulated one, served on a free port of loopback; and whom they
trust."""

from collections.abc import AsyncIterator

import pytest

from comms.platform.settings import load
from consumers.simulator.options import read
from consumers.simulator.server import SimulatorServer
from tests.authority import trusted
from tests.consumers.contract.samples import SECRET

__all__ = ["simulator", "trusted"]


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    """A stub that answers quickly and sends its receipts at once."""
    quick = {"COMMS_SIMULATOR_LATENCY_MS": "5", "COMMS_SIMULATOR_RECEIPT_DELAY_MS": "0"}
    server = SimulatorServer(read(load(quick)), SECRET)
    await server.start()
    yield server
    await server.stop()
