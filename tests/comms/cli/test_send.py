"""`comms send` with one message: what is posted, what is printed, how it ends."""

import base64
import json
from pathlib import Path

import pytest

from comms.cli.fields import FIELDS_OF, attachment
from producer.requests import parse
from schemas.vocabulary import Channel
from tests.comms.cli.conftest import Run
from tests.comms.cli.fake_api import FakeApi, life, message_id, problem


def test_an_sms_is_posted_with_every_common_field(comms: Run, api: FakeApi) -> None:
    ran = comms(
        *("send", "sms", "--to", "+12025550100", "--body", "Hi", "--from", "Acme"),
        *("--key", "k1", "--customer", "c1", "--workflow", "w", "--priority", "high"),
        *("--send-at", "2030-01-31T09:00:00Z", "--on-doubt", "hold"),
        *("--metadata", "order=17", "--metadata", "note=a=b"),
        "--bypass-suppression",
        "--test",
    )
    assert (ran.code, ran.err) == (0, "")
    assert message_id(1) in ran.out
    assert api.messages == [
        {
            "channel": "sms",
            "to": "+12025550100",
            "body": "Hi",
            "from": "Acme",
            "idempotency_key": "k1",
            "customer_id": "c1",
            "workflow": "w",
            "priority": "high",
            "send_at": "2030-01-31T09:00:00+00:00",
            "on_doubt": "hold",
            "metadata": {"order": "17", "note": "a=b"},
            "bypass_suppression": True,
            "mode": "test",
        }
    ]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("a" * 160, ""),
        ("a" * 161, "comms: a text of 2 parts (GSM-7)\n"),
        ("я" * 135, "comms: a text of 3 parts (UCS-2)\n"),
    ],
    ids=["one", "two", "another alphabet"],
)
def test_a_text_of_several_parts_is_told_before_it_is_sent(
    comms: Run, api: FakeApi, body: str, told: str
) -> None:
    ran = comms("send", "sms", "--to", "+12025550100", "--body", body)
    assert (ran.code, ran.err) == (0, told)
    ran = comms("send", "sms", "--to", "+12025550100", "--body", body, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert len(api.messages) == 2


COMMANDS: dict[Channel, list[str]] = {
    Channel.SMS: ["--to", "+12025550100", "--body", "Hi", "--from", "Acme"],
    Channel.EMAIL: [
        *("--to", "Ann <ann@example.com>", "--subject", "S", "--text", "T", "--html", "<p>T"),
        *("--cc", "b@example.com", "--bcc", "c@example.com", "--reply-to", "d@example.com"),
        *("--from", "e@example.com", "--header", "X-Note=1"),
        *("--unsubscribe-url", "https://example.com/u", "--attach"),
    ],
    Channel.PUSH: [
        *("--to", "simulator:a", "--to", "simulator:b", "--title", "T", "--body", "B"),
        *("--platform", "fcm", "--data", "a=b", "--badge", "3", "--collapse-key", "k"),
        *("--ttl", "60"),
    ],
    Channel.VOICE: [
        *("--to", "+12025550100", "--text", "Hi", "--audio-url", "https://example.com/a.mp3"),
        *("--language", "en-US", "--voice", "v", "--repeat", "2", "--from", "+12025550101"),
    ],
}


@pytest.mark.parametrize("channel", list(Channel))
def test_every_field_of_a_channel_can_be_given_and_is_what_the_api_expects(
    channel: Channel, comms: Run, api: FakeApi, tmp_path: Path
) -> None:
    options = [*COMMANDS[channel]]
    if channel is Channel.EMAIL:
        file = tmp_path / "bill.pdf"
        file.write_bytes(b"%PDF")
        options.append(str(file))
    assert comms("send", channel, *options).code == 0
    (posted,) = api.messages
    assert posted.keys() == {"channel", *FIELDS_OF[channel]}
    parse(posted)


def test_a_web_push_subscription_is_given_as_json(comms: Run, api: FakeApi) -> None:
    subscription = {"endpoint": "https://push.example.com/1", "keys": {"p256dh": "a", "auth": "b"}}
    to = json.dumps(subscription)
    assert comms("send", "push", "--to", to, "--title", "T", "--body", "B").code == 0
    assert api.messages[0]["to"] == subscription


def test_an_attachment_carries_its_name_type_and_bytes(tmp_path: Path) -> None:
    file = tmp_path / "bill.pdf"
    file.write_bytes(b"%PDF\x00")
    found = attachment(file)
    assert found["filename"] == "bill.pdf"
    assert found["content_type"] == "application/pdf"
    assert base64.b64decode(found["content"]) == b"%PDF\x00"


def test_a_known_key_is_said_to_be_known(comms: Run, api: FakeApi) -> None:
    first = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--key", "k")
    again = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--key", "k")
    assert "known already" in again.out
    assert "known already" not in first.out
    assert len(api.messages) == 1


def test_json_is_all_that_is_printed(comms: Run, api: FakeApi) -> None:
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--json")
    assert json.loads(ran.out) == {"id": message_id(1), "status": "pending"}
    assert len(api.messages) == 1


def test_a_refusal_is_one_line_that_names_the_field(comms: Run, api: FakeApi) -> None:
    api.refuse_next.append(problem(422, "Not valid", ("to", "must be an E.164 number")))
    ran = comms("send", "sms", "--to", "1", "--body", "Hi")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "comms: to: must be an E.164 number (HTTP 422)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "fax", "--to", "x"),
        ("send", "sms"),
        ("send", "sms", "--to", "+12025550100", "--body", "Hi", "--send-at", "soon"),
        ("send", "sms", "--file", "f.csv", "--to", "+12025550100"),
        ("send", "sms", "--file", "f.csv", "--wait"),
        ("send", "sms", "--nonsense"),
        ("nonsense",),
    ],
)
def test_what_is_asked_wrongly_exits_with_2_and_sends_nothing(
    arguments: tuple[str, ...], comms: Run, api: FakeApi
) -> None:
    ran = comms(*arguments)
    assert ran.code == 2
    assert ran.err
    assert api.messages == []


def test_an_api_that_is_away_is_one_line(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_URL", "http://127.0.0.1:1")
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi")
    assert ran.code == 1
    assert ran.err == "comms: no answer from http://127.0.0.1:1 (Connection refused)\n"


def test_a_missing_key_is_one_line(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMMS_API_KEY")
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi")
    assert ran.code == 1
    assert ran.err.startswith("comms: COMMS_API_KEY: not set")
    assert ran.err.count("\n") == 1


def test_the_key_is_found_in_the_data_folder(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COMMS_API_KEY")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api-key").write_text("ck_test\n")
    assert comms("send", "sms", "--to", "+12025550100", "--body", "Hi").code == 0


@pytest.mark.parametrize(
    ("end", "code"), [("delivered", 0), ("failed", 1), ("cancelled", 1), ("unknown", 1)]
)
def test_wait_prints_each_event_once_and_ends_with_the_status(
    end: str, code: int, comms: Run, api: FakeApi
) -> None:
    api.lives.extend([life(1, "pending"), life(1, "pending", "sending", end)])
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--wait")
    assert ran.code == code
    assert [ran.out.count(f"said {n}") for n in range(3)] == [1, 1, 1]
    assert ran.out.index("sending") < ran.out.index(end)


def test_wait_stops_at_its_timeout_with_3_and_the_status(comms: Run, api: FakeApi) -> None:
    api.lives.append(life(1, "pending", "sending"))
    ran = comms("send", "sms", "--to", "+1", "--body", "Hi", "--wait", "--timeout", "0")
    assert ran.code == 3
    assert "still sending" in ran.err
