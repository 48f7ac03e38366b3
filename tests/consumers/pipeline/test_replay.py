"""A dead letter that is put back is delivered, once, and says that a person wanted it so."""

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


def test_a_letter_put_back_twice_is_sent_once_and_opens_a_new_chapter(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(broker, database_url, tmp_path)
    message = sms()
    value = CODEC.encode(message, topic="comms.sms")
    producer = broker.producer()
    record = Record("comms.sms", 0, 0, message.key.encode(), value, 0)
    # As if a rule had refused it that was wrong and is mended.
    dead_letters.send_to_dead_letters(
        producer, record, channel="sms", reason=Reason.INVALID_RECIPIENT, detail="to: wrong"
    )
    producer.close()
    [letter] = [letter for letter, _ in dead_letters.read_all(broker)]
    with simulator(settings) as provider, listener(broker) as heard, channel(settings):
        for _ in range(2):
            assert dead_letters.replay(broker, [letter.id], on_acknowledged=lambda: None) == 1
        sent = heard.wait_for(message.id, Status.SENT)
        assert sent.reason is Reason.ACCEPTED
        assert heard.statuses(message.id)[0] == (Status.SENDING, Reason.RESENT)
        behind = sms(to=message.to)  # once it is sent, both copies before it have had their turn
        publish(broker, behind)
        heard.wait_for(behind.id, Status.SENT)
        assert provider.calls(message.id) == 1
