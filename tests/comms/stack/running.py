"""A `comms up` in a process of its own, for the tests of the one-machine stack."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import wait_for

START_SECONDS = 180.0  # a bound for a busy machine, not a measure


@dataclass(frozen=True, kw_only=True)
class Running:
    """A `comms up`, its folder, and its output."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    log: Path

    def output(self) -> str:
        """Return what it has printed."""
        return self.log.read_text()

    def stack(self) -> dict[str, str]:
        """Return the contents of its `stack.toml`."""
        return tomllib.loads((self.data_dir / "stack.toml").read_text())

    def children(self) -> dict[str, int]:
        """Return the process ids of its children by the name of the service or program."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        named = ((_name_of(int(pid)), int(pid)) for pid in listed.split())
        return {name: pid for name, pid in named if name}

    def status(self, path: str, *, key: str = "") -> int:
        """Return the status code of a GET."""
        return self.request("GET", path, key=key)[0]

    def request(
        self, method: str, path: str, *, key: str = "", body: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Send a request; return the status code and the body if it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            content = answer.read()
            is_json = "json" in (answer.getheader("Content-Type") or "")
            return answer.status, json.loads(content) if is_json else None
        finally:
            connection.close()

    def interrupt(self) -> int:
        """Send SIGINT, as Ctrl-C does, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait()


def _name_of(pid: int) -> str:
    """Return an empty name for a process that has ended in the meantime."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return ""
    return arguments[-1] if "comms" in arguments else Path(arguments[0]).name


def command(data_dir: Path, port: int) -> list[str]:
    """Return the command line of `comms up`."""
    return [
        *(sys.executable, "-m", "comms", "up"),
        *("--port", str(port), "--data-dir", str(data_dir)),
    ]


def environment() -> dict[str, str]:
    """Return our environment without the settings in it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COMMS_")}


def eight_free_ports() -> int:
    """Find eight free ports in a row and return the first.

    Each test process begins the search elsewhere: the ports are free until the stack takes them,
    so two processes that search at the same time must not find the same ones.
    """
    blocks = [18080 + 10 * n for n in range(1000)]
    start = os.getpid() % len(blocks)
    for first in (*blocks[start:], *blocks[:start]):
        probes = [socket.socket() for _ in range(8)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no eight free ports in a row")


def start(
    data_dir: Path,
    output: Path,
    *,
    prefix: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Running:
    """Start `comms up` and wait until everything runs.

    Args:
        output: the file for what it prints.
        prefix: a command that runs it, such as `setpriv`.
        variables: environment variables to add.
    """
    port = eight_free_ports()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*prefix, *command(data_dir, port)],
            stdout=file,
            stderr=file,
            env={**environment(), **(variables or {})},
        )
    running = Running(process=process, port=port, data_dir=data_dir, log=output)
    wait_for(
        lambda: "Press Ctrl-C" in running.output() or process.poll() is not None,
        seconds=START_SECONDS,
    )
    assert process.poll() is None, running.output()
    return running
