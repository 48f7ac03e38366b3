"""Every service by name, and how a process runs one.

`comms run NAME` and the packages' `__main__` modules call `run_service`. It reads the settings,
configures the logs, turns signals into an event, and prints an error that ends the service as one
line. A service's module is imported only when it runs, so a process loads nothing it does not use.
"""

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType

import structlog

from comms.platform import logs
from comms.platform.database import DatabaseError
from comms.platform.errors import ServiceError
from comms.platform.kafka import KafkaFault
from comms.platform.settings import Settings, SettingsError, load

log = structlog.get_logger(__name__)

Service = Callable[[Settings, threading.Event], None]

CHANNELS = ("sms", "email", "push", "voice")

# The module and the function that run each service.
SERVICES: Mapping[str, str] = MappingProxyType(
    {
        "app": "comms.app:run_app",
        "producer": "comms.app:run_app",
        "relay": "producer.relay:run_relay",
        "audit": "audit.ingest:run_audit",
        "receipts": "comms.app:run_receipts",
        "sms": "consumers.service:run_sms",
        "email": "consumers.service:run_email",
        "push": "consumers.service:run_push",
        "voice": "consumers.service:run_voice",
        **{f"{name} receipts": f"comms.app:run_{name}_receipts" for name in CHANNELS},
        "simulator": "consumers.simulator.server:run_simulator",
        "demo": "comms.demo:run_demo",
    }
)


def load_service(name: str) -> Service:
    """Import the function that runs a service until its event is set."""
    module, _, function = SERVICES[name].partition(":")
    service: Service = getattr(import_module(module), function)
    return service


def run_service(name: str) -> None:
    """Run a service until SIGTERM or SIGINT; on an error print one line and exit with code 1.

    Args:
        name: one of `SERVICES`.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load()
        logs.configure(name, level=settings.environment.get("COMMS_LOG_LEVEL", "INFO"))
        load_service(name)(settings, stop)
    except (SettingsError, DatabaseError, KafkaFault, ServiceError, OSError) as error:
        sys.exit(f"comms run {name}: {error}")
