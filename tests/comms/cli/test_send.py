"""`comms send` with one message: the request, the output, and the exit code."""

import base64
import json
from pathlib import Path

import pytest

from comms.cli.fields import FIELDS_OF, read_attachment
from producer.requests import parse
from schemas.vocabulary import Channel
from tests.comms.cli.conftest import Run
from tests.comms.cli.fake_api import FakeApi, message, message_id, problem


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
    ("body", "note"),
    [
        ("a" * 160, ""),
        ("a" * 161, "comms: the text has 2 segments (GSM-7)\n"),
        ("я" * 135, "comms: the text has 3 segments (UCS-2)\n"),
    ],
    ids=["one", "two", "another alphabet"],
)
def test_the_number_of_segments_is_printed_if_there_are_several(
    comms: Run, api: FakeApi, body: str, note: str
) -> None:
    ran = comms("send", "sms", "--to", "+12025550100", "--body", body)
    assert (ran.code, ran.err) == (0, note)
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
def test_every_field_of_a_channel_has_an_option_and_fits_the_api(
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


def test_a_web_push_subscription_is_accepted_as_json(comms: Run, api: FakeApi) -> None:
    subscription = {"endpoint": "https://push.example.com/1", "keys": {"p256dh": "a", "auth": "b"}}
    to = json.dumps(subscription)
    assert comms("send", "push", "--to", to, "--title", "T", "--body", "B").code == 0
    assert api.messages[0]["to"] == subscription


def test_an_attachment_has_its_name_type_and_bytes(tmp_path: Path) -> None:
    file = tmp_path / "bill.pdf"
    file.write_bytes(b"%PDF\x00")
    attachment = read_attachment(file)
    assert attachment["filename"] == "bill.pdf"
    assert attachment["content_type"] == "application/pdf"
    assert base64.b64decode(attachment["content"]) == b"%PDF\x00"


def test_a_repeated_key_is_reported(comms: Run, api: FakeApi) -> None:
    first = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--key", "k")
    again = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--key", "k")
    assert "already accepted" in again.out
    assert "already accepted" not in first.out
    assert len(api.messages) == 1


def test_with_json_nothing_else_is_printed(comms: Run, api: FakeApi) -> None:
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--json")
    assert json.loads(ran.out) == {"id": message_id(1), "status": "pending"}
    assert len(api.messages) == 1


def test_a_validation_error_is_one_line_that_names_the_field(comms: Run, api: FakeApi) -> None:
    api.refuse_next.append(problem(422, "Not valid", ("to", "must be an E.164 number")))
    ran = comms("send", "sms", "--to", "1", "--body", "Hi")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "comms: to: must be an E.164 number (HTTP 422)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "fax", "--to", "x"),
        ("send", "sms"),
        ("send", "sms", "--to", "+12025550100", "--body", "Hi", "--send-at", "tomorrow"),
        ("send", "sms", "--file", "f.csv", "--to", "+12025550100"),
        ("send", "sms", "--file", "f.csv", "--wait"),
        ("send", "sms", "--nonsense"),
        ("nonsense",),
    ],
)
def test_wrong_arguments_exit_with_2_and_send_nothing(
    arguments: tuple[str, ...], comms: Run, api: FakeApi
) -> None:
    ran = comms(*arguments)
    assert ran.code == 2
    assert ran.err
    assert api.messages == []


def test_an_unreachable_api_is_one_line_that_says_what_to_do(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_URL", "http://127.0.0.1:1")
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi")
    assert ran.code == 1
    assert ran.err == (
        "comms: no answer from http://127.0.0.1:1 (Connection refused); "
        "start the system with `comms up`, or set COMMS_URL to its address\n"
    )


def test_a_missing_key_is_one_line_that_says_what_to_do(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMMS_API_KEY")
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi")
    assert ran.code == 1
    assert ran.err.startswith("comms: COMMS_API_KEY: not set")
    assert "`comms keys create`" in ran.err
    assert ran.err.count("\n") == 1


def test_the_key_is_read_from_the_data_folder(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COMMS_API_KEY")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api-key").write_text("ck_test\n")
    assert comms("send", "sms", "--to", "+12025550100", "--body", "Hi").code == 0


@pytest.mark.parametrize(
    ("final", "code"), [("delivered", 0), ("failed", 1), ("cancelled", 1), ("unknown", 1)]
)
def test_wait_prints_each_event_once_and_exits_by_the_final_status(
    final: str, code: int, comms: Run, api: FakeApi
) -> None:
    api.states.extend([message(1, "pending"), message(1, "pending", "sending", final)])
    ran = comms("send", "sms", "--to", "+12025550100", "--body", "Hi", "--wait")
    assert ran.code == code
    assert [ran.out.count(f"detail {n}") for n in range(3)] == [1, 1, 1]
    assert ran.out.index("sending") < ran.out.index(final)


def test_wait_ends_at_its_timeout_with_3_and_prints_the_status(comms: Run, api: FakeApi) -> None:
    api.states.append(message(1, "pending", "sending"))
    ran = comms("send", "sms", "--to", "+1", "--body", "Hi", "--wait", "--timeout", "0")
    assert ran.code == 3
    assert "still sending" in ran.err
