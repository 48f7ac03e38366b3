"""Three nodes of Apache Kafka that keep three copies of everything, of which two are enough.

Tests of what a deployment does when one of its brokers ends: it goes on with the other two.
"""

from pathlib import Path

from comms.stack.process import free_port
from tests.apache.server import ApacheKafka, Node

_IDS = (1, 2, 3)


class Cluster:
    """Its `nodes` are reached one by one; `kill` and `start` of one leave the others alone."""

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
        """What Kafka clients connect to: all of them."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self) -> None:
        """Start all and return once each answers.

        Raises:
            EngineError: one does not start.
        """
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            node.wait()

    def stop(self) -> None:
        """End all; nobody needs what they held."""
        for node in self.nodes:
            node.kill()
