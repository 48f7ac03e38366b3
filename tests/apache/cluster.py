"""A cluster of three Apache Kafka nodes with three replicas of everything, two of them in sync.

Tests use it to prove that a deployment continues when one of its brokers fails.
"""

from pathlib import Path

from comms.stack.process import free_port
from tests.apache.server import ApacheKafka, Node

_IDS = (1, 2, 3)


class Cluster:
    """Three nodes. Each of them can be killed and started alone."""

    def __init__(self, data_dir: Path) -> None:
        controllers = {id_: free_port() for id_ in _IDS}
        self.nodes = tuple(
            ApacheKafka(
                data_dir / str(id_),
                node=Node(id=id_, port=free_port(), controllers=controllers),
            )
            for id_ in _IDS
        )

    @property
    def bootstrap_servers(self) -> str:
        """The bootstrap servers: every node."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self) -> None:
        """Start every node and wait until each of them responds.

        Raises:
            EngineError: a node does not start.
        """
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            node.wait()

    def stop(self) -> None:
        """Kill every node. Their data is not needed again."""
        for node in self.nodes:
            node.kill()
