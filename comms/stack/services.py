"""The services of the one-machine stack: one child each, its port, and whether it is ready.

`comms.stack.up` turns `SERVICES` into children of its supervisor. Each is the very process that a
deployment runs (`comms run NAME`), told by its environment where everything is.
"""

import http.client
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from comms.stack.errors import PortTakenError
from comms.stack.process import Program

APP = "app"
SIMULATOR = "simulator"
DEMO = "demo"

# Ports count up from the app's in this order.
SERVICES = (APP, "relay", "audit", "sms", "email", "push", "voice", SIMULATOR)

_FORMER_LISTENER_SECONDS = 2.0


def ports_from(first: int) -> dict[str, int]:
    """The port of each service, the app's first."""
    return {name: first + place for place, name in enumerate(SERVICES)}


def service_program(
    name: str, *, port: int | None, data_dir: Path, environment: Mapping[str, str]
) -> Program:
    """`comms run NAME` in the environment that all services share."""
    own = {} if port is None else {"COMMS_HTTP_PORT": str(port)}
    return Program(
        name=name,
        argv=(sys.executable, "-m", "comms", "run", name),
        log=data_dir / "logs" / f"{name}.log",
        env={**environment, **own},
    )


def refuse_taken_ports(ports: Mapping[str, int], *, host: str) -> None:
    """See that every port is free.

    Raises:
        PortTakenError: something else listens on one.
    """
    # What a killed stack left behind may need a moment to die.
    deadline = time.monotonic() + _FORMER_LISTENER_SECONDS
    while taken := [port for port in ports.values() if not _is_free(host, port)]:
        if time.monotonic() > deadline:
            raise PortTakenError(
                f"port {taken[0]} is taken; choose another with --port "
                f"({len(ports)} in a row are used, counting up from it)"
            )
        time.sleep(0.1)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


class Readiness:
    """Asks every service's `/readyz`, each until it has said yes once."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._missing = dict(ports)

    @property
    def missing(self) -> list[str]:
        """Services that have not been ready yet."""
        return list(self._missing)

    def all_ready(self) -> bool:
        """Whether every one has been ready."""
        for name, port in list(self._missing.items()):
            if _answers_ready(port):
                del self._missing[name]
        return not self._missing


def _answers_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
