"""An Apache Kafka node for these tests, whichever broker the other tests run on."""

from collections.abc import Iterator

import pytest

from comms.platform.kafka import Broker
from comms.stack.errors import EngineError
from tests.apache.server import ApacheKafka


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """One node, empty when the module begins."""
    engine = ApacheKafka(tmp_path_factory.mktemp("apache"))
    try:
        engine.start()
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield engine
    finally:
        engine.kill()


@pytest.fixture(scope="module")
def broker(kafka: ApacheKafka) -> Broker:
    """The node, with the topics."""
    broker = Broker({"bootstrap.servers": kafka.bootstrap_servers})
    broker.apply_topics()
    return broker
