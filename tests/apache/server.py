"""Apache Kafka as a test engine: one node that is both broker and controller.

It has the interface of `comms.stack.broker.EmbeddedBroker`, so the tests and the chaos run work
with either. Two things differ: its data survives a restart, unless `wipe` removes it, and `kill`
ends it as a failure of its machine would.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comms.platform.kafka import Broker, KafkaFault
from comms.stack.errors import EngineError
from comms.stack.process import (
    Program,
    end,
    free_port,
    kill_group,
    last_error_line,
    launch,
    rotate,
    wait_until_ready,
)
from tests.apache import jars

_CLUSTER_ID = "Y29tbXMtdGVzdC1rYWZrYQ"  # Kafka requires 16 bytes in URL-safe base64
_FORMAT_SECONDS = 60
# Small and quick to start: only the C1 compiler, and a garbage collector without threads.
_JVM = (
    *("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *("-XX:-UsePerfData", "-Djava.awt.headless=true"),
    *(
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
    ),
)
# Shorter delays than the defaults, so that tests wait less, and fewer threads for a small machine.
_QUICK = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "500",
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node's place in a cluster.

    Args:
        id: the node's number, from 1.
        port: the port for clients.
        controllers: the port of each node, by id, for the controller quorum.
    """

    id: int
    port: int
    controllers: Mapping[int, int]

    @property
    def properties(self) -> dict[str, str]:
        """The server properties for listeners, quorum and replication."""
        replicas = str(len(self.controllers))
        in_sync = str(len(self.controllers) // 2 + 1)
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.id),
            "controller.quorum.voters": ",".join(
                f"{id_}@127.0.0.1:{port}" for id_, port in self.controllers.items()
            ),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"CLIENT://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self.controllers[self.id]}",
            "advertised.listeners": f"CLIENT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
        }


class ApacheKafka:
    """A node on a loopback port. It ends when this process ends.

    Args:
        data_dir: the folder for its data, configuration and log.
        node: its place in a cluster. By default it is a cluster of its own.
        properties: server properties that add to the defaults or replace them.
        client: client properties for `answers`, if the server requires authentication.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        node: Node | None = None,
        properties: Mapping[str, str] | None = None,
        client: Mapping[str, str] | None = None,
    ) -> None:
        self._node = node or Node(id=1, port=free_port(), controllers={1: free_port()})
        self._data_dir = data_dir
        self._properties = dict(properties or {})
        self._client = dict(client or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The bootstrap servers for Kafka clients."""
        return f"127.0.0.1:{self._node.port}"

    @property
    def pid(self) -> int:
        """Id of the process.

        Raises:
            EngineError: the node is not running.
        """
        if self._process is None:
            raise EngineError("the engine is not running")
        return self._process.pid

    @property
    def logs(self) -> Path:
        """The folder of the records. It has a folder for each partition."""
        return self._data_dir / "data"

    def program(self) -> Program:
        """The command that runs the node."""
        return self._java("kafka.Kafka", str(self._data_dir / "server.properties"))

    def start(self, *, timeout: float = 60.0) -> None:
        """Start the node and wait until it answers a metadata request.

        Raises:
            EngineError: Java or Kafka is not available, or the node does not start.
        """
        self.begin()
        self.wait(timeout=timeout)

    def begin(self) -> None:
        """Start the node without waiting. A node of a cluster responds only with the others."""
        if not self.logs.is_dir():
            self._format()
        program = self.program()
        rotate(program.log)
        self._process = launch(program)

    def wait(self, *, timeout: float = 60.0) -> None:
        """Wait until the node that `begin` started answers a metadata request."""
        assert self._process is not None
        try:
            wait_until_ready(self._process, self.program(), answers=self.answers, timeout=timeout)
        except EngineError:
            self.stop(grace=0)
            raise

    def stop(self, *, grace: float = 20.0) -> None:
        """Stop the node. Its data is there when it starts again."""
        if self._process is not None:
            end(self._process, with_signal=self.program().stop_signal, grace=grace)
            self._process = None

    def kill(self) -> None:
        """Kill the node, as a failure of its machine would."""
        if self._process is not None:
            kill_group(self._process)
            end(self._process, with_signal=signal.SIGKILL, grace=5)
            self._process = None

    def wipe(self) -> None:
        """Remove the data of the stopped node. It starts empty."""
        shutil.rmtree(self.logs, ignore_errors=True)

    def answers(self) -> bool:
        """Whether the node answers a metadata request now."""
        # Check the port first: a Kafka client that finds it closed logs errors and retries slowly.
        try:
            socket.create_connection(("127.0.0.1", self._node.port), timeout=1).close()
        except OSError:
            return False
        try:
            Broker({"bootstrap.servers": self.bootstrap_servers, **self._client}).list_topics(2.0)
        except KafkaFault:
            return False
        return True

    def _format(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        config = self._data_dir / "server.properties"
        values = {
            **self._node.properties,
            **_QUICK,
            "log.dirs": str(self.logs),
            **self._properties,
        }
        config.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        config.chmod(0o600)
        options = ("format", "--cluster-id", _CLUSTER_ID, "--config", str(config))
        program = self._java("kafka.tools.StorageTool", *options)
        process = launch(program)
        if process.wait(_FORMAT_SECONDS):
            raise EngineError(f"cannot format Kafka's storage: {last_error_line(program.log)}")

    def _java(self, main: str, *options: str) -> Program:
        return Program(
            name="apache-kafka",
            argv=(jars.java(), *_JVM, "-cp", jars.class_path(), main, *options),
            log=self._data_dir / "logs" / "broker.log",
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd=self._data_dir,
        )
