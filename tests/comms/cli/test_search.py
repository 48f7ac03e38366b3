"""`comms find`, `show` and `channels`: the requests, and the output."""

import json
from datetime import UTC, datetime

import pytest
import typer

from comms.cli.times import parse_future, parse_past
from tests.comms.cli.conftest import Run
from tests.comms.cli.fake_api import FakeApi, message, message_id, problem

NOW = datetime(2030, 1, 31, 9, tzinfo=UTC)


def accept(api: FakeApi, count: int) -> None:
    """Add so many messages."""
    api.messages.extend({"to": "x"} for _ in range(count))


def test_every_filter_is_passed_on(comms: Run, api: FakeApi) -> None:
    ran = comms(
        *("find", "--customer", "c", "--recipient", "+1", "--channel", "sms"),
        *("--status", "failed", "--reason", "expired", "--provider", "p", "--workflow", "w"),
        *("--since", "2030-01-30T00:00:00Z", "--until", "2030-01-31T00:00:00Z", "--limit", "7"),
    )
    assert ran.code == 0
    assert api.queries == [
        {
            "customer_id": "c",
            "recipient": "+1",
            "channel": "sms",
            "status": "failed",
            "reason": "expired",
            "provider": "p",
            "workflow": "w",
            "since": "2030-01-30T00:00:00+00:00",
            "until": "2030-01-31T00:00:00+00:00",
            "limit": "7",
        }
    ]


def test_pages_are_fetched_up_to_the_limit_newest_first(comms: Run, api: FakeApi) -> None:
    accept(api, 500)
    found = json.loads(comms("find", "--limit", "450", "--json").out)
    assert [item["id"] for item in found["items"]] == [message_id(n) for n in range(500, 50, -1)]
    assert found["next_cursor"] == "450"
    assert [query["limit"] for query in api.queries] == ["200", "200", "50"]


def test_the_cursor_continues_where_a_search_ended(comms: Run, api: FakeApi) -> None:
    accept(api, 5)
    found = json.loads(comms("find", "--cursor", "3", "--json").out)
    assert [item["id"] for item in found["items"]] == [message_id(2), message_id(1)]
    assert found["next_cursor"] is None


def test_a_table_has_a_line_per_message_and_a_note_about_more(comms: Run, api: FakeApi) -> None:
    accept(api, 60)
    ran = comms("find")
    assert len(ran.out.splitlines()) == 51
    assert "--cursor 50" in ran.err


def test_show_prints_the_answer_of_the_provider_as_plain_text(comms: Run, api: FakeApi) -> None:
    document = message(1, "pending", "failed", customer_id="[bold]c1")
    document["events"][1]["response"] = "[red]no\x1b[2J such number"
    api.states.append(document)
    ran = comms("show", message_id(1))
    assert ran.code == 0
    assert "[bold]c1" in ran.out
    assert "[red]no [2J such number" in ran.out
    assert ran.out.index("detail 0") < ran.out.index("detail 1")


def test_show_with_json_prints_the_answer_of_the_api(comms: Run, api: FakeApi) -> None:
    api.states.append(message(1, "delivered"))
    assert json.loads(comms("show", message_id(1), "--json").out) == message(1, "delivered")


def test_a_missing_message_is_one_line(comms: Run, api: FakeApi) -> None:
    ran = comms("show", message_id(9))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "comms: There is no such message (HTTP 404)\n"


def test_channels_show_readiness_and_the_last_error(comms: Run, api: FakeApi) -> None:
    error = {
        "at": "2030-01-31T09:00:00Z",
        "message_id": message_id(1),
        "reason": "rejected",
        "code": "21610",
        "detail": "Unsubscribed",
    }
    provider = {
        "name": "acme",
        "kind": "acme",
        "readiness": "live",
        "problem": None,
        "evidence": "it took a message at 2030-01-31T08:59:00+00:00",
        "weight": 70,
        "last_success": None,
        "last_error": error,
        "unknown_codes": {"29999": 3},
        "counts": {},
    }
    api.channels.append(
        {
            "channel": "sms",
            "readiness": "degraded",
            "problem": "no consumer is running",
            "consumers": 0,
            "in_flight": 0,
            "lag_messages": 12,
            "lag_seconds": 3.5,
            "last_success": None,
            "last_error": error,
            "counts": {},
            "providers": [provider],
        }
    )
    ran = comms("channels")
    assert "degraded" in ran.out
    assert "no consumer is running" in ran.out
    assert "12 (3.5 s)" in ran.out
    assert "weight 70" in ran.out
    assert "21610: Unsubscribed" in ran.out
    assert "it took a message at 2030-01-31T08:59:00+00:00" in ran.out
    assert "unknown codes: 29999" in " ".join(ran.out.split())
    assert json.loads(comms("channels", "--json").out) == {"items": api.channels}


def test_a_wrong_api_key_is_one_line(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_API_KEY", "ck_other")
    ran = comms("find")
    assert (ran.code, ran.err) == (1, "comms: Send a valid API key (HTTP 401)\n")


def test_an_error_of_a_gateway_is_one_line(comms: Run, api: FakeApi) -> None:
    api.refuse_next.append(problem(502, "Bad gateway"))
    ran = comms("find")
    assert (ran.code, ran.err) == (1, "comms: Bad gateway (HTTP 502)\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2030-01-31T07:00:00+00:00"),
        ("-1d", "2030-01-30T09:00:00+00:00"),
        ("+30m", "2030-01-31T09:30:00+00:00"),
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00+00:00"),
        ("2030-01-01T00:00:00+02:00", "2030-01-01T00:00:00+02:00"),
    ],
)
def test_times_may_be_relative_or_absolute(text: str, expected: str) -> None:
    assert parse_past(text, "--since", now=lambda: NOW) == expected


def test_the_example_of_a_wrong_time_fits_the_option(comms: Run, api: FakeApi) -> None:
    ran = comms("find", "--since", "yesterday")
    assert (ran.code, api.queries) == (2, [])
    assert "--since: 'yesterday' is not a time; write 2h (2 hours ago)" in " ".join(ran.err.split())
    with pytest.raises(typer.BadParameter, match=r"--send-at: 'tomorrow' .* \+30m \(in 30 minutes"):
        parse_future("tomorrow", "--send-at")


def test_a_time_without_an_offset_is_local() -> None:
    assert datetime.fromisoformat(parse_past("2030-01-01", "--since")).utcoffset() is not None
