"""The services of the one-machine stack: one child process each, its port, and its readiness.

`comms.stack.up` starts `SERVICES` as children of its supervisor. Each is the same process that a
deployment runs (`comms run NAME`). Its environment holds the addresses of everything else.
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

_OLD_LISTENER_SECONDS = 2.0


def assign_ports(first: int) -> dict[str, int]:
    """Return the port of each service; the app has the first."""
    return {name: first + index for index, name in enumerate(SERVICES)}


def service_program(
    name: str, *, port: int | None, data_dir: Path, environment: Mapping[str, str]
) -> Program:
    """Describe `comms run NAME` in the environment that all services share."""
    port_variable = {} if port is None else {"COMMS_HTTP_PORT": str(port)}
    return Program(
        name=name,
        argv=(sys.executable, "-m", "comms", "run", name),
        log=data_dir / "logs" / f"{name}.log",
        env={**environment, **port_variable},
    )


def check_ports_free(ports: Mapping[str, int], *, host: str) -> None:
    """Check that every port is free.

    Raises:
        PortTakenError: another program listens on one of them.
    """
    # The processes of a killed stack may need a moment to end.
    deadline = time.monotonic() + _OLD_LISTENER_SECONDS
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


class ReadinessCheck:
    """Polls `/readyz` of every service, each until it has answered 200 once."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._pending = dict(ports)

    @property
    def pending(self) -> list[str]:
        """The services that have not been ready yet."""
        return list(self._pending)

    def poll(self) -> bool:
        """Ask the pending services once; return whether every service has been ready."""
        for name, port in list(self._pending.items()):
            if is_ready(port):
                del self._pending[name]
        return not self._pending


def is_ready(port: int) -> bool:
    """Return whether the service on a port answers `/readyz` with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
