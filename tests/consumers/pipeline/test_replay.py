"""A dead letter that is put back is delivered once, and reported as requested by a person."""

from pathlib import Path

from comms.platform import dead_letters
from comms.platform.kafka import Broker, Record
from schemas.vocabulary import Reason, Status
from tests.consumers.harness import (
    CODEC,
    channel,
    listener,
    publish,
    settings_for,
    simulator,
    sms,
)


def test_a_dead_letter_put_back_twice_is_sent_once_in_a_new_send_cycle(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    message = sms()
    value = CODEC.encode(message, topic="comms.sms")
    producer = broker.producer()
    record = Record("comms.sms", 0, 0, message.key.encode(), value, 0)
    # As if a wrong rule had rejected it, and the rule was repaired.
    dead_letters.send_to_dead_letters(
        producer, record, channel="sms", reason=Reason.INVALID_RECIPIENT, detail="to: wrong"
    )
    producer.close()
    [dead_letter] = [dead_letter for dead_letter, _ in dead_letters.read_all(broker)]
    with simulator(settings) as provider, listener(broker) as status_topic, channel(settings):
        for _ in range(2):
            assert dead_letters.replay(broker, [dead_letter.id], on_acknowledged=lambda: None) == 1
        sent = status_topic.wait_for(message.id, Status.SENT)
        assert sent.reason is Reason.ACCEPTED
        assert status_topic.statuses(message.id)[0] == (Status.SENDING, Reason.RESENT)
        next_message = sms(to=message.to)  # when it is sent, both copies have had their turn
        publish(broker, next_message)
        status_topic.wait_for(next_message.id, Status.SENT)
        assert provider.calls(message.id) == 1
