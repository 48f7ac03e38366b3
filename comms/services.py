"""Every service by name, and the one way a process runs one.

`comms run NAME` and the packages' `__main__` modules end here: settings are read, logs set up,
signals turned into an event, and an error that stops the service becomes one line and an exit code.
A service's module is loaded when it is asked for: a process carries what it runs and nothing else.
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

# Where each service's `run` function is.
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


def service_of(name: str) -> Service:
    """The function that runs a service until its event is set."""
    module, _, function = SERVICES[name].partition(":")
    found: Service = getattr(import_module(module), function)
    return found


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
        service_of(name)(settings, stop)
    except (SettingsError, DatabaseError, KafkaFault, ServiceError, OSError) as error:
        sys.exit(f"comms run {name}: {error}")
