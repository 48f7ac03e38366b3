"""A channel process from topic to status event, with a real broker, database and HTTP provider."""

from pathlib import Path

import psycopg

from comms.platform.kafka import Broker
from schemas.vocabulary import OnDoubt, Reason, Status
from tests.consumers.harness import (
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    simulator,
    sms,
)


def test_a_message_is_claimed_sent_and_published(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    message = sms()
    with simulator(settings) as provider, listener(broker) as status_topic, channel(settings):
        publish(broker, message)
        event = status_topic.wait_for(message.id, Status.SENT)
        assert provider.calls(message.id) == 1
    assert status_topic.statuses(message.id) == [
        (Status.SENDING, Reason.CLAIMED),
        (Status.SENT, Reason.ACCEPTED),
    ]
    assert event.provider == "simulated"
    assert event.provider_message_id
    assert event.recipient == message.to


def test_the_same_message_twice_in_the_topic_is_one_call(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    message, last = sms(), sms()
    with simulator(settings) as provider, listener(broker) as status_topic:
        with channel(settings):
            publish(broker, message, message)
            status_topic.wait_for(message.id, Status.SENT)
        with channel(settings):  # and again after a restart
            publish(broker, message, last)
            status_topic.wait_for(last.id, Status.SENT)
        assert provider.calls(message.id) == 1


def test_a_temporary_error_is_retried(broker: Broker, database_url: str, tmp_path: Path) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    message = sms(to="+12025550102")
    with simulator(settings) as provider, listener(broker) as status_topic, channel(settings):
        publish(broker, message)
        event = status_topic.wait_for(message.id, Status.SENT)
        assert event.attempt == 3
        assert provider.calls(message.id) == 3
        with psycopg.connect(database_url) as session:
            eventually(
                lambda: (
                    session.execute("SELECT count(*) FROM consumers.deferred").fetchone() == (0,)
                ),
                "the deferred queue is empty",
            )


def test_a_refusal_fails_with_the_providers_response(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    message = sms(to="+12025550101")
    with simulator(settings), listener(broker) as status_topic, channel(settings):
        publish(broker, message)
        event = status_topic.wait_for(message.id, Status.FAILED)
    assert event.reason is Reason.INVALID_RECIPIENT
    assert event.response


def test_a_lost_answer_is_held_when_the_sender_chose_hold(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    config.write_text("[sms]\ncall_timeout_seconds = 0.5\n")
    settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
    message = sms(to="+12025550105", on_doubt=OnDoubt.HOLD)
    with simulator(settings) as provider, listener(broker) as status_topic, channel(settings):
        publish(broker, message)
        status_topic.wait_for(message.id, Status.UNKNOWN)
        assert provider.calls(message.id) == 1


def test_a_lost_call_is_repeated_once_and_declared(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    config.write_text("[sms]\ncall_timeout_seconds = 0.5\n")
    settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
    message = sms(to="+12025550105")
    with simulator(settings) as provider, listener(broker) as status_topic, channel(settings):
        publish(broker, message)
        status_topic.wait_for(message.id, Status.UNKNOWN)
        assert provider.calls(message.id) == 2
    assert (Status.SENDING, Reason.AMBIGUOUS) in status_topic.statuses(message.id)


def test_one_recipients_messages_go_out_in_order(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    messages = [sms(body=str(number)) for number in range(30)]
    with simulator(settings), listener(broker) as status_topic, channel(settings):
        publish(broker, *messages)
        accepted = [status_topic.wait_for(m.id, Status.SENT).occurred_at for m in messages]
    assert accepted == sorted(accepted)


def test_an_undecodable_record_goes_to_dead_letters_and_blocks_nothing(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    message, broken = sms(), sms(to="not a number")
    with simulator(settings) as provider, listener(broker) as status_topic, channel(settings):
        producer = broker.producer()
        producer.publish("comms.sms", key="acme:x", value=b"not avro at all")
        producer.close()
        publish(broker, broken, message)
        status_topic.wait_for(message.id, Status.SENT)
        event = status_topic.wait_for(broken.id, Status.FAILED)
        assert provider.calls(broken.id) == 0
    assert event.reason is Reason.INVALID_RECIPIENT
    dead_letters = broker.consumer("test-dead-letters", ["comms.dead-letters"])
    values: list[bytes] = []

    def both_are_there() -> bool:
        values.extend(record.value for record in dead_letters.poll(10, 0.1))
        return b"not avro at all" in values and len(values) == 2

    eventually(both_are_there, "two dead letters")
    dead_letters.close()


def test_one_recipients_flood_does_not_delay_others(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path, COMMS_SMS_CONCURRENCY="4")
    flood = [sms("+12025550199") for _ in range(100)]
    other = sms("+12125550123")
    with simulator(settings), listener(broker) as status_topic, channel(settings):
        publish(broker, *flood, other)
        status_topic.wait_for(other.id, Status.SENT)
        assert sum(Status.SENT in dict(status_topic.statuses(m.id)) for m in flood) < len(flood)
