"""`comms send CHANNEL --file`: every good row is sent once, every bad row is reported by line."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from comms.cli import bulk
from comms.cli.rows import BadRow, Keys, Row, read
from comms.client import ApiClient, ApiRefusedError
from comms.platform.settings import Secret
from schemas.vocabulary import Channel
from tests.comms.cli.conftest import Run
from tests.comms.cli.fake_api import KEY, FakeApi, problem

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines to a file and returns its path."""

    def write_lines(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write_lines


def rows(path: Path, channel: Channel = Channel.SMS, **defaults: str) -> list[Row | BadRow]:
    """Read every row of a file."""
    with Keys(None) as keys:
        return list(read(path, channel, defaults=defaults, keys=keys, progress=lambda _: None))


def problems(path: Path, channel: Channel = Channel.SMS) -> dict[int, str]:
    """Return the problems of the bad rows by line."""
    return {row.line: row.problem for row in rows(path, channel) if isinstance(row, BadRow)}


def test_good_rows_are_sent_and_bad_rows_reported_by_line(
    comms: Run, api: FakeApi, write: Write
) -> None:
    path = write(
        "f.csv",
        "to,body,customer",
        "+12025550100,Hi,c1",
        "+12025550100",
        "+12025550104,,c3",
        '+12025550100,"two',
        'lines",c4',
        "",
        "+12025550100,Bye,c5",
    )
    ran = comms("send", "sms", "--file", path, "--workflow", "w")
    assert ran.code == 1
    assert [message["customer_id"] for message in api.messages] == ["c1", "c4", "c5"]
    assert api.messages[1]["body"] == "two\nlines"
    assert {message["workflow"] for message in api.messages} == {"w"}
    assert f"{path}:3: has 1 cells instead of 3" in ran.err
    assert f"{path}:4: body: is required" in ran.err
    assert ran.out == "3 accepted, 2 rejected\n"


def test_sending_a_file_again_sends_nothing_twice(comms: Run, api: FakeApi, write: Write) -> None:
    path = write("f.csv", "to,body", "+12025550100,Hi", "+12025550104,Hi", "+12025550100,Hi")
    assert comms("send", "sms", "--file", path).out == "3 accepted\n"
    again = comms("send", "sms", "--file", path)
    assert (again.code, again.out) == (0, "0 accepted, 3 already accepted earlier\n")
    assert len(api.messages) == 3


def test_another_name_of_the_run_sends_again(comms: Run, api: FakeApi, write: Write) -> None:
    path = write("f.csv", "to,body", "+12025550100,Hi")
    comms("send", "sms", "--file", path, "--key", "january")
    comms("send", "sms", "--file", path, "--key", "february")
    assert len(api.messages) == 2


def test_a_row_keeps_its_own_key(comms: Run, api: FakeApi, write: Write) -> None:
    path = write("f.csv", "key,to,body", "k1,+12025550100,Hi", "k1,+12025550100,Hi")
    assert comms("send", "sms", "--file", path).out == "1 accepted, 1 already accepted earlier\n"
    assert api.messages[0]["idempotency_key"] == "k1"


def test_json_lines_have_the_form_of_the_api(comms: Run, api: FakeApi, write: Write) -> None:
    path = write(
        "f.jsonl",
        json.dumps({"to": ["simulator:a", "simulator:b"], "title": "T", "body": "B", "badge": 2}),
        "{",
        "[]",
        json.dumps({"channel": "sms", "to": "x", "body": "B"}),
        "",
        json.dumps({"to": "simulator:c", "title": "T", "body": "ü", "data": {"a": "b"}}),
    )
    ran = comms("send", "push", "--file", path, "--json")
    assert ran.code == 1
    assert json.loads(ran.out) == {
        "accepted": 2,
        "known": 0,
        "bad": 3,
        "bad_rows": [
            {"line": 2, "problem": "is not JSON"},
            {"line": 3, "problem": "is not a JSON object"},
            {"line": 4, "problem": "channel: must be push, or left out"},
        ],
    }
    assert [message["to"] for message in api.messages] == [
        ["simulator:a", "simulator:b"],
        "simulator:c",
    ]


def test_cells_are_converted_to_the_types_of_their_fields(write: Write) -> None:
    path = write(
        "f.csv",
        "to,title,body,badge,data,ttl",
        'simulator:a,T, B ,3,"{""a"": ""b""}",60',
        "x,T,B,three,,",
        "x,T,B,,{,",
    )
    (good, *_) = rows(path, Channel.PUSH)
    assert isinstance(good, Row)
    given = {name: good.content[name] for name in ("body", "badge", "data", "ttl")}
    assert given == {"body": " B ", "badge": 3, "data": {"a": "b"}, "ttl": 60}
    assert problems(path, Channel.PUSH) == {
        3: "badge: must be a whole number",
        4: "data: must be JSON",
    }


def test_a_boolean_cell_is_true_or_false(write: Write) -> None:
    path = write("f.csv", "to,body,bypass_suppression", "x,B,true", "x,B,FALSE", "x,B,", "x,B,yes")
    good = [row for row in rows(path) if isinstance(row, Row)]
    assert [row.content.get("bypass_suppression") for row in good] == [True, False, None]
    assert problems(path) == {5: "bypass_suppression: must be true or false"}


def test_copies_are_separated_by_semicolons(write: Write) -> None:
    path = write("f.csv", "to,subject,text,cc", "a@example.com,S,T,b@example.com; c@example.com")
    (row,) = rows(path, Channel.EMAIL)
    assert isinstance(row, Row)
    assert row.content["cc"] == ["b@example.com", "c@example.com"]


def test_bytes_that_are_not_utf8_are_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"\xef\xbb\xbfto,body\n+12025550100,\xff\xfe\n+12025550104,ok\n")
    assert problems(path) == {2: "is not UTF-8"}
    assert len(rows(path)) == 2


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("f.csv", ("to,phone", "1,2"), "line 1: unknown column 'phone'; sms has to, body"),
        ("f.csv", ("to,to", "1,2"), "line 1: the column 'to' appears twice"),
        ("f.csv", (), "line 1: the first line must have the column names"),
        ("f.txt", ("to",), "the name must end in .csv or .jsonl"),
    ],
)
def test_an_unusable_file_is_one_line(
    *, name: str, lines: tuple[str, ...], message: str, comms: Run, api: FakeApi, write: Write
) -> None:
    ran = comms("send", "sms", "--file", write(name, *lines))
    assert ran.code == 1
    assert message in ran.err
    assert api.messages == []


def test_a_missing_file_is_one_line(comms: Run, api: FakeApi, tmp_path: Path) -> None:
    ran = comms("send", "sms", "--file", tmp_path / "none.csv")
    assert ran.code == 1
    assert "No such file" in ran.err


def test_an_error_in_the_middle_prints_what_was_sent(
    comms: Run, api: FakeApi, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "ROWS", 1)
    path = write("f.csv", "to,body", "+12025550100,Hi", "+12025550104,Hi")
    monkeypatch.setattr(bulk, "WAITS", ())
    api.unavailable_after = 1
    ran = comms("send", "sms", "--file", path)
    assert ran.code == 1
    assert ran.out == "1 accepted\n"
    assert ran.err == "comms: Unavailable (HTTP 503)\n"


def test_an_interrupt_finishes_the_request_and_prints_the_true_count(
    comms: Run, api: FakeApi, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "ROWS", 2)
    path = write("f.csv", "to,body", *(f"+1202555010{n},Hi" for n in range(6)))
    api.on_batch = lambda: signal.raise_signal(signal.SIGINT)
    handler = signal.getsignal(signal.SIGINT)
    ran = comms("send", "sms", "--file", path)
    assert (ran.code, ran.out) == (130, "2 accepted\n")
    assert ran.err == "comms: interrupted; run the same command again to continue\n"
    assert len(api.messages) == 2
    assert signal.getsignal(signal.SIGINT) is handler
    api.on_batch = None
    assert comms("send", "sms", "--file", path).out == "4 accepted, 2 already accepted earlier\n"


def test_an_interrupt_ends_a_wait_for_the_rate_limit(
    comms: Run, api: FakeApi, write: Write
) -> None:
    api.retry_after = "3600"
    api.refuse_next.append(problem(429, "Slow down"))
    api.on_batch = lambda: signal.raise_signal(signal.SIGINT)
    ran = comms("send", "sms", "--file", write("f.csv", "to,body", "+12025550100,Hi"))
    assert (ran.code, ran.out) == (130, "0 accepted\n")
    assert api.messages == []


def post(api: FakeApi, count: int, sleep: bulk.Sleep = lambda _: None) -> bulk.Tally:
    """Send so many rows; `sleep` takes no time."""
    tally = bulk.Tally()
    content = [{"to": "x", "body": "Hi", "idempotency_key": str(n)} for n in range(count)]
    with ApiClient(api.url, Secret(KEY)) as client:
        bulk.send_rows(
            client,
            (Row(n + 2, item) for n, item in enumerate(content)),
            on_bad=lambda _: None,
            tally=tally,
            sleep=sleep,
        )
    return tally


def test_rows_are_posted_in_chunks(api: FakeApi) -> None:
    assert post(api, 1201).accepted == 1201
    assert api.batches == [500, 500, 201]


def test_a_chunk_that_is_too_large_is_halved(api: FakeApi) -> None:
    api.refuse_next.append(problem(413, "Too large"))
    assert post(api, 9).accepted == 9
    assert api.batches == [4, 5]


def test_a_temporary_error_is_retried(api: FakeApi) -> None:
    api.refuse_next.extend([problem(503, "Unavailable"), problem(429, "Slow down")])
    assert post(api, 3).accepted == 3


def test_a_rate_limit_is_waited_for_without_limit(api: FakeApi) -> None:
    api.retry_after = "7"
    api.refuse_next.extend(problem(429, "Slow down") for _ in range(9))
    api.refuse_next.append(problem(503, "Unavailable"))
    waited: list[float] = []
    assert post(api, 3, sleep=waited.append).accepted == 3
    assert waited == [7.0] * 9 + [bulk.WAITS[0]]


def test_a_lasting_error_ends_the_run(api: FakeApi) -> None:
    api.refuse_next.extend(problem(503, "Unavailable") for _ in range(len(bulk.WAITS) + 1))
    waited: list[float] = []
    with pytest.raises(ApiRefusedError):
        post(api, 3, sleep=waited.append)
    assert waited == list(bulk.WAITS)


def test_a_chunk_of_one_row_that_is_refused_is_a_bad_row(api: FakeApi) -> None:
    api.refuse_next.append(problem(413, "Too large"))
    tally = post(api, 1)
    assert tally.bad == [BadRow(2, "Too large (HTTP 413)")]


def test_identical_rows_have_different_keys_that_are_the_same_in_each_run() -> None:
    def make_three() -> list[str]:
        with Keys(None) as keys:
            return [
                keys.next_key({"to": "a"}),
                keys.next_key({"to": "b"}),
                keys.next_key({"to": "a"}),
            ]

    assert len(set(make_three())) == 3
    assert make_three() == make_three()
