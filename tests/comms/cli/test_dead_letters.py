"""`comms dead-letters` on a real broker: what is buried is listed, opened, and put back."""

import json
from typing import Any

import pytest

from comms.platform import dead_letters
from comms.platform.dead_letters import REPLAYED_FROM, newest_of_each_line
from comms.platform.kafka import Broker, Record
from schemas.events import queued
from schemas.topics import STATUS
from schemas.vocabulary import Channel, Reason
from tests.comms.cli.conftest import Run
from tests.consumers.harness import CODEC, sms

NUMBER, WORDS = "+12025550164", "nobody else's business"
MESSAGE = sms(to=NUMBER, body=WORDS)
GOOD = CODEC.encode(MESSAGE, topic="comms.sms")


@pytest.fixture
def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker that the environment names; letters in it are shared by the tests below."""
    servers = broker.properties["bootstrap.servers"]
    monkeypatch.setenv("COMMS_KAFKA_BOOTSTRAP_SERVERS", servers)
    return broker


def send_to_dead_letters(
    kafka: Broker, value: bytes, *, channel: str = "sms", topic: str = "comms.sms"
) -> str:
    """Put a record among the letters; its id there."""
    producer = kafka.producer()
    record = Record(topic, 3, 14, MESSAGE.key.encode(), value, 0)
    dead_letters.send_to_dead_letters(
        producer, record, channel=channel, reason=Reason.UNDECODABLE, detail="why not"
    )
    producer.close()
    return [letter.id for letter, _ in dead_letters.letters(kafka)][-1]


def listed(comms: Run, *options: str) -> list[dict[str, Any]]:
    ran = comms("dead-letters", "list", "--json", *options)
    assert ran.code == 0
    items: list[dict[str, Any]] = json.loads(ran.out)["items"]
    return items


def returned(kafka: Broker, topic: str, letter: str) -> list[Record]:
    """What was put back into a topic from a letter."""
    origin = letter.encode()
    return [r for r in kafka.records(topic) if r.headers.get(REPLAYED_FROM) == origin]


def test_letters_are_listed_newest_last_and_can_be_told_apart(comms: Run, kafka: Broker) -> None:
    ids = [send_to_dead_letters(kafka, b"%d" % n) for n in range(3)]
    other = send_to_dead_letters(kafka, b"", channel="status", topic=STATUS)
    assert [item["id"] for item in listed(comms)][-4:] == [*ids, other]
    assert [item["id"] for item in listed(comms, "--channel", "status")][-1] == other
    assert [item["id"] for item in listed(comms, "--channel", "sms", "--limit", "2")] == ids[1:]
    assert listed(comms, "--reason", "invalid_content") == []
    assert listed(comms, "--since", "+1h") == []
    newest = listed(comms, "--channel", "sms")[-1]
    assert (newest["origin_topic"], newest["origin_offset"]) == ("comms.sms", "14")
    shown = comms("dead-letters", "list", "--limit", "1")
    assert "comms.status:3:14" in shown.out
    assert "why not" in shown.out
    assert "older ones" in shown.err


def test_a_letter_is_shown_without_who_and_what_unless_asked_for(comms: Run, kafka: Broker) -> None:
    letter = send_to_dead_letters(kafka, GOOD)
    ran = comms("dead-letters", "show", letter)
    assert ran.code == 0
    assert str(MESSAGE.id) in ran.out
    assert "acme:…" in ran.out
    assert NUMBER not in ran.out
    assert WORDS not in ran.out
    whole = json.loads(comms("dead-letters", "show", letter, "--content", "--json").out)
    assert whole["key"] == MESSAGE.key
    assert (whole["record"]["to"], whole["record"]["body"]) == (NUMBER, WORDS)


def test_what_is_no_record_is_shown_as_bytes(comms: Run, kafka: Broker) -> None:
    letter = send_to_dead_letters(kafka, b"\x07\xff")
    offset = letter.partition(":")[2]  # an offset alone will do
    hidden = json.loads(comms("dead-letters", "show", offset, "--json").out)
    assert "hidden" in hidden["value"]
    whole = json.loads(comms("dead-letters", "show", offset, "--json", "--content").out)
    assert whole["value"] == "07 ff"
    assert "single-object" in whole["problem"]


def test_a_letter_goes_back_unchanged(comms: Run, kafka: Broker) -> None:
    letter = send_to_dead_letters(kafka, GOOD)
    ran = comms("dead-letters", "replay", letter)
    assert (ran.code, ran.out) == (0, "1 replayed: 1 sms undecodable\n")
    [record] = returned(kafka, "comms.sms", letter)
    assert (record.key, record.value) == (MESSAGE.key.encode(), GOOD)


def test_a_status_letter_goes_back_to_the_status_topic(comms: Run, kafka: Broker) -> None:
    value = CODEC.encode(queued(MESSAGE.header), topic=STATUS)
    letter = send_to_dead_letters(kafka, value, channel="status", topic=STATUS)
    assert comms("dead-letters", "replay", "--channel", "status").code == 0
    [record] = returned(kafka, STATUS, letter)
    assert record.value == value


def test_a_dry_run_puts_nothing_back(comms: Run, kafka: Broker) -> None:
    letter = send_to_dead_letters(kafka, GOOD, channel="voice", topic="comms.voice")
    ran = comms("dead-letters", "replay", "--channel", "voice", "--dry-run")
    assert ran.out == "1 would be replayed: 1 voice undecodable\n"
    assert returned(kafka, "comms.voice", letter) == []


def test_what_came_back_once_is_not_put_back_by_its_first_letter_again(kafka: Broker) -> None:
    first = send_to_dead_letters(kafka, b"hopeless")
    dead_letters.replay(kafka, [first], on_acknowledged=lambda: None)
    [record] = returned(kafka, "comms.sms", first)
    producer = kafka.producer()
    dead_letters.send_to_dead_letters(
        producer, record, channel="sms", reason=Reason.UNDECODABLE, detail="again"
    )
    producer.close()
    found = [letter for letter, _ in dead_letters.letters(kafka)]
    assert found[-1].replayed_from == first
    left = [letter.id for letter in newest_of_each_line(found)]
    assert first not in left
    assert left[-1] == found[-1].id


def test_a_letter_from_elsewhere_stays(comms: Run, kafka: Broker) -> None:
    letter = send_to_dead_letters(kafka, b"", channel=Channel.PUSH, topic="somebody.elses")
    ran = comms("dead-letters", "replay", letter, "--json")
    assert json.loads(ran.out) == {"replayed": 0, "letters": [], "without_origin": [letter]}


def test_what_is_asked_wrongly_is_one_line_and_puts_nothing_back(comms: Run, kafka: Broker) -> None:
    letter = send_to_dead_letters(kafka, b"here")
    assert comms("dead-letters", "replay").code == 2
    assert comms("dead-letters", "replay", letter, "--all").code == 2
    ran = comms("dead-letters", "replay", letter, "0:999999")
    assert ran.err == "comms: there is no dead letter 0:999999; nothing was replayed\n"
    assert returned(kafka, "comms.sms", letter) == []
    assert comms("dead-letters", "show", "999999").code == 1


def test_a_broker_without_the_topic_is_one_line(
    comms: Run, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    ran = comms("dead-letters", "list")
    assert ran.code == 1
    assert "there is no topic comms.dead-letters" in ran.err
