"""Access control: settings alone satisfy SASL/PLAIN and ACLs, and a refusal is one line."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from comms.platform.kafka import Broker, KafkaFault, KafkaRefusedError
from comms.platform.settings import Settings
from comms.stack.errors import EngineError
from consumers.service import run_channel
from schemas.vocabulary import Channel, Status
from tests.apache.server import ApacheKafka
from tests.apache.walk import enqueue, relaying
from tests.consumers.harness import channel, listener, settings_for, simulator, sms
from tests.waiting import wait_for

pytestmark = pytest.mark.apache

_USERS = {"admin": "adm-secret", "comms": "let-me-in", "stranger": "who-am-i"}
_JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required"
    f' username="admin" password="{_USERS["admin"]}"'
    + "".join(f' user_{name}="{password}"' for name, password in _USERS.items())
    + ";"
)
_GUARDED = {
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.client.plain.sasl.jaas.config": _JAAS,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    # Only the node itself is anonymous, when it connects to its own controller.
    "super.users": "User:admin;User:ANONYMOUS",
}


def login(name: str, password: str | None = None) -> dict[str, str]:
    """The environment variables with which an operator gives the credentials."""
    return {
        "COMMS_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "COMMS_KAFKA_SASL_MECHANISMS": "PLAIN",
        "COMMS_KAFKA_SASL_USERNAME": name,
        "COMMS_KAFKA_SASL_PASSWORD": password or _USERS[name],
    }


def properties(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix("COMMS_KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
    }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A node that requires authentication, with its administrator's credentials."""
    admin = properties(login("admin"))
    folder = tmp_path_factory.mktemp("guarded")
    engine = ApacheKafka(folder, properties=_GUARDED, client=admin)
    try:
        engine.start()
        broker = Broker({"bootstrap.servers": engine.bootstrap_servers, **admin})
        allow_comms(broker)
        yield broker
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        engine.kill()


def allow_comms(broker: Broker) -> None:
    """Grant the permissions that docs/settings.md lists for the services."""
    topic, group = ResourceType.TOPIC, ResourceType.GROUP
    allowed = [
        (topic, "comms.", AclOperation.READ),
        (topic, "comms.", AclOperation.WRITE),
        (topic, "comms.", AclOperation.CREATE),
        (group, "comms-", AclOperation.READ),
    ]
    bindings = [
        AclBinding(
            resource_type,
            prefix,
            ResourcePatternType.PREFIXED,
            "User:comms",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for resource_type, prefix, operation in allowed
    ]
    admin = AdminClient(dict(broker.properties))
    for future in admin.create_acls(bindings).values():
        future.result(20)


def settings_of(broker: Broker, environment: Mapping[str, str], folder: Path) -> Settings:
    return settings_for(broker, "postgresql://user@127.0.0.1:1/none", folder, **environment)


def test_the_services_need_nothing_but_settings(
    guarded: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(guarded, database_url, tmp_path, **login("comms"))
    broker, message = Broker(settings.need_kafka()), sms()
    broker.apply_topics()
    assert "comms.sms" in broker.list_topics()
    with (
        simulator(settings),
        listener(guarded) as heard,
        channel(settings),
        relaying(broker, settings),
    ):
        enqueue(settings, [message])
        heard.wait_for(message.id, Status.SENT)


def test_a_missing_permission_is_reported_in_one_line(guarded: Broker, tmp_path: Path) -> None:
    guarded.apply_topics()
    broker = Broker(settings_of(guarded, login("stranger"), tmp_path).need_kafka())
    with pytest.raises(KafkaRefusedError) as creating:
        broker.apply_topics()
    reports: list[KafkaFault | None] = []
    producer = broker.producer()
    producer.publish("comms.sms", key="k", value=b"v", on_ack=reports.append)
    wait_for(lambda: bool(reports), seconds=30, what="the delivery report")
    producer.close()
    consumer = broker.consumer(f"test-{uuid4()}", ["comms.sms"])
    with pytest.raises(KafkaRefusedError) as reading:
        wait_for(lambda: bool(consumer.poll(1, 0.1)), what="a refusal of the consumer")
    with suppress(KafkaFault):
        consumer.close()
    assert isinstance(reports[0], KafkaRefusedError)
    for line in (creating.value, reports[0], reading.value):
        assert "AUTHORIZATION_FAILED" in str(line)
        assert "\n" not in str(line)


def test_a_wrong_password_is_reported_as_a_refusal_and_not_as_an_outage(
    guarded: Broker, database_url: str, tmp_path: Path
) -> None:
    environment = login("comms", "a-wrong-password")
    settings = settings_for(guarded, database_url, tmp_path, **environment)
    broker = Broker(settings.need_kafka())
    with pytest.raises(KafkaRefusedError, match="_AUTHENTICATION") as asking:
        broker.list_topics()
    assert "a-wrong-password" not in str(asking.value)
    with pytest.raises(KafkaRefusedError, match="_AUTHENTICATION"):
        broker.read_topic_ids(["comms.sms"])
    with pytest.raises(KafkaRefusedError, match="_AUTHENTICATION"):
        run_channel(Channel.SMS, settings, Event())
