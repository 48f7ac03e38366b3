"""Every service by name, and the one way a process runs one.

`comms run NAME` and the packages' `__main__` modules end here: settings are read, logs set up,
signals turned into an event, and an error that stops the service becomes one line and an exit code.
"""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import structlog

from audit.ingest import run_audit
from comms import logs
from comms.app import run_app, run_receipts
from comms.database import DatabaseError
from comms.demo import run_demo
from comms.kafka import KafkaFault
from comms.settings import Settings, SettingsError, load
from consumers.intake import TooManyBadRecordsError
from consumers.service import run_channel
from consumers.simulator import serve
from producer.relay import run_relay
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

Service = Callable[[Settings, threading.Event], None]


def run_simulator(settings: Settings, stop: threading.Event) -> None:
    """The simulated provider's own process."""

    async def until_stopped() -> None:
        over = asyncio.Event()
        waiting = asyncio.create_task(asyncio.to_thread(stop.wait))
        waiting.add_done_callback(lambda _: over.set())
        await serve(settings, over)

    asyncio.run(until_stopped())


def _channel(channel: Channel) -> Service:
    return partial(run_channel, channel)


SERVICES: Mapping[str, Service] = MappingProxyType(
    {
        "app": run_app,
        "producer": run_app,
        "relay": run_relay,
        "audit": run_audit,
        "receipts": run_receipts,
        **{channel.value: _channel(channel) for channel in Channel},
        "simulator": run_simulator,
        "demo": run_demo,
    }
)


def run_service(name: str) -> None:
    """Run a service until SIGTERM or SIGINT; exits the process with 0, or 1 after one clear line.

    Args:
        name: one of `SERVICES`.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load()
        logs.configure(name, level=settings.environment.get("COMMS_LOG_LEVEL", "INFO"))
        SERVICES[name](settings, stop)
    except (SettingsError, DatabaseError, KafkaFault, TooManyBadRecordsError, OSError) as error:
        sys.exit(f"comms run {name}: {error}")
