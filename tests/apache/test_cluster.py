"""Three brokers fail one at a time: no message is lost, and every repeated call is declared."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from comms.platform.kafka import Broker
from comms.stack.errors import EngineError
from schemas.vocabulary import Status
from tests.apache.cluster import Cluster
from tests.apache.walk import enqueue, relaying, undeclared_calls
from tests.consumers.harness import channel, listener, settings_for, simulator, sms

pytestmark = pytest.mark.apache


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        cluster.stop()


def test_brokers_fail_one_after_another_under_traffic(
    cluster: Cluster, database_url: str, tmp_path: Path
) -> None:
    broker = Broker({"bootstrap.servers": cluster.bootstrap_servers})
    broker.apply_topics()
    assert replicas(cluster, "comms.sms") == {3}  # the cluster's own default; the topics name none
    settings = settings_for(broker, database_url, tmp_path)
    waves = [[sms(to=f"+1212{wave}{n:04}") for n in range(100)] for wave in (555, 556, 557)]
    messages = [message for wave in waves for message in wave]
    with (
        simulator(settings) as provider,
        listener(broker) as heard,
        channel(settings),
        relaying(broker, settings),
    ):
        enqueue(settings, waves[0])
        heard.wait_for(waves[0][0].id, Status.SENT)
        cluster.nodes[0].kill()
        enqueue(settings, waves[1])
        heard.wait_for(waves[1][0].id, Status.SENT)
        cluster.nodes[0].start()
        cluster.nodes[1].kill()
        enqueue(settings, waves[2])
        for message in messages:
            heard.wait_for(message.id, Status.SENT)
        assert undeclared_calls(heard, provider, messages) == {}


def replicas(cluster: Cluster, topic: str) -> set[int]:
    """The numbers of replicas that the partitions of a topic have."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(20)
    return {len(partition.replicas) for partition in described.partitions}
