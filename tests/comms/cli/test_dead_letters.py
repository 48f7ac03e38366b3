"""`comms dead-letters` on a real broker: list, show and replay."""

import json
from typing import Any

import pytest

from comms.platform import dead_letters
from comms.platform.dead_letters import REPLAYED_FROM, drop_superseded
from comms.platform.kafka import Broker, Record
from schemas.events import queued
from schemas.topics import STATUS
from schemas.vocabulary import Channel, Reason
from tests.comms.cli.conftest import Run
from tests.consumers.harness import CODEC, sms

NUMBER, TEXT = "+12025550164", "a private text"
MESSAGE = sms(to=NUMBER, body=TEXT)
GOOD = CODEC.encode(MESSAGE, topic="comms.sms")


@pytest.fixture
def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker, with its address in the environment; all tests of this module share its topics."""
    servers = broker.properties["bootstrap.servers"]
    monkeypatch.setenv("COMMS_KAFKA_BOOTSTRAP_SERVERS", servers)
    return broker


def send_to_dead_letters(
    kafka: Broker, value: bytes, *, channel: str = "sms", topic: str = "comms.sms"
) -> str:
    """Make a record a dead letter; return its id."""
    producer = kafka.producer()
    record = Record(topic, 3, 14, MESSAGE.key.encode(), value, 0)
    dead_letters.send_to_dead_letters(
        producer, record, channel=channel, reason=Reason.UNDECODABLE, detail="why not"
    )
    producer.close()
    return [dead_letter.id for dead_letter, _ in dead_letters.read_all(kafka)][-1]


def list_items(comms: Run, *options: str) -> list[dict[str, Any]]:
    """Return the entries that `comms dead-letters list` prints."""
    ran = comms("dead-letters", "list", "--json", *options)
    assert ran.code == 0
    items: list[dict[str, Any]] = json.loads(ran.out)["items"]
    return items


def replayed(kafka: Broker, topic: str, dead_letter: str) -> list[Record]:
    """Return the records of a topic that are replays of a dead letter."""
    origin = dead_letter.encode()
    return [r for r in kafka.records(topic) if r.headers.get(REPLAYED_FROM) == origin]


def test_dead_letters_are_listed_newest_last_and_filtered(comms: Run, kafka: Broker) -> None:
    ids = [send_to_dead_letters(kafka, b"%d" % n) for n in range(3)]
    other = send_to_dead_letters(kafka, b"", channel="status", topic=STATUS)
    assert [item["id"] for item in list_items(comms)][-4:] == [*ids, other]
    assert [item["id"] for item in list_items(comms, "--channel", "status")][-1] == other
    assert [item["id"] for item in list_items(comms, "--channel", "sms", "--limit", "2")] == ids[1:]
    assert list_items(comms, "--reason", "invalid_content") == []
    assert list_items(comms, "--since", "+1h") == []
    newest = list_items(comms, "--channel", "sms")[-1]
    assert (newest["origin_topic"], newest["origin_offset"]) == ("comms.sms", "14")
    table = comms("dead-letters", "list", "--limit", "1")
    assert "comms.status:3:14" in table.out
    assert "why not" in table.out
    assert "older ones" in table.err


def test_recipient_and_content_are_shown_only_with_content(comms: Run, kafka: Broker) -> None:
    dead_letter = send_to_dead_letters(kafka, GOOD)
    ran = comms("dead-letters", "show", dead_letter)
    assert ran.code == 0
    assert str(MESSAGE.id) in ran.out
    assert "acme:…" in ran.out
    assert NUMBER not in ran.out
    assert TEXT not in ran.out
    whole = json.loads(comms("dead-letters", "show", dead_letter, "--content", "--json").out)
    assert whole["key"] == MESSAGE.key
    assert (whole["record"]["to"], whole["record"]["body"]) == (NUMBER, TEXT)


def test_a_value_that_cannot_be_decoded_is_shown_as_bytes(comms: Run, kafka: Broker) -> None:
    dead_letter = send_to_dead_letters(kafka, b"\x07\xff")
    offset = dead_letter.partition(":")[2]  # an offset alone is accepted
    hidden = json.loads(comms("dead-letters", "show", offset, "--json").out)
    assert "hidden" in hidden["value"]
    whole = json.loads(comms("dead-letters", "show", offset, "--json", "--content").out)
    assert whole["value"] == "07 ff"
    assert "single-object" in whole["problem"]


def test_a_dead_letter_is_replayed_unchanged(comms: Run, kafka: Broker) -> None:
    dead_letter = send_to_dead_letters(kafka, GOOD)
    ran = comms("dead-letters", "replay", dead_letter)
    assert (ran.code, ran.out) == (0, "1 replayed: 1 sms undecodable\n")
    [record] = replayed(kafka, "comms.sms", dead_letter)
    assert (record.key, record.value) == (MESSAGE.key.encode(), GOOD)


def test_a_status_event_is_replayed_into_the_status_topic(comms: Run, kafka: Broker) -> None:
    value = CODEC.encode(queued(MESSAGE), topic=STATUS)
    dead_letter = send_to_dead_letters(kafka, value, channel="status", topic=STATUS)
    assert comms("dead-letters", "replay", "--channel", "status").code == 0
    [record] = replayed(kafka, STATUS, dead_letter)
    assert record.value == value


def test_a_dry_run_replays_nothing(comms: Run, kafka: Broker) -> None:
    dead_letter = send_to_dead_letters(kafka, GOOD, channel="voice", topic="comms.voice")
    ran = comms("dead-letters", "replay", "--channel", "voice", "--dry-run")
    assert ran.out == "1 would be replayed: 1 voice undecodable\n"
    assert replayed(kafka, "comms.voice", dead_letter) == []


def test_a_record_that_was_replayed_and_failed_again_is_replayed_once(kafka: Broker) -> None:
    first = send_to_dead_letters(kafka, b"hopeless")
    dead_letters.replay(kafka, [first], on_acknowledged=lambda: None)
    [record] = replayed(kafka, "comms.sms", first)
    producer = kafka.producer()
    dead_letters.send_to_dead_letters(
        producer, record, channel="sms", reason=Reason.UNDECODABLE, detail="again"
    )
    producer.close()
    existing = [dead_letter for dead_letter, _ in dead_letters.read_all(kafka)]
    assert existing[-1].replayed_from == first
    newest = [dead_letter.id for dead_letter in drop_superseded(existing)]
    assert first not in newest
    assert newest[-1] == existing[-1].id


def test_a_record_of_another_topic_is_not_replayed(comms: Run, kafka: Broker) -> None:
    dead_letter = send_to_dead_letters(kafka, b"", channel=Channel.PUSH, topic="another.topic")
    ran = comms("dead-letters", "replay", dead_letter, "--json")
    assert json.loads(ran.out) == {"replayed": 0, "letters": [], "without_origin": [dead_letter]}


def test_wrong_arguments_are_one_line_and_replay_nothing(comms: Run, kafka: Broker) -> None:
    dead_letter = send_to_dead_letters(kafka, b"here")
    assert comms("dead-letters", "replay").code == 2
    assert comms("dead-letters", "replay", dead_letter, "--all").code == 2
    ran = comms("dead-letters", "replay", dead_letter, "0:999999")
    assert ran.err == "comms: there is no dead letter 0:999999; nothing was replayed\n"
    assert replayed(kafka, "comms.sms", dead_letter) == []
    assert comms("dead-letters", "show", "999999").code == 1


def test_a_broker_without_the_topic_is_one_line(
    comms: Run, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    ran = comms("dead-letters", "list")
    assert ran.code == 1
    assert "there is no topic comms.dead-letters" in ran.err
