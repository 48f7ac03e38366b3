"""`comms resend` and `comms resolve`: the requests, their rate, and the output."""

import json
import re
from uuid import uuid4

import pytest

from comms.cli.redrive import resend_pages
from comms.client import ApiClient, ApiRefusedError
from comms.platform.settings import Secret
from tests.comms.cli.conftest import Run
from tests.comms.cli.fake_api import KEY, FakeApi, message_id, problem

WHERE = "status = 'failed'"


def test_a_dry_run_shows_the_count_and_the_first_messages_and_sends_nothing(
    comms: Run, api: FakeApi
) -> None:
    api.matching = 7
    ran = comms("resend", "--where", WHERE, "--dry-run")
    assert ran.code == 0
    assert re.search(r"failed rejected +7", ran.out)
    assert message_id(7) in ran.out
    assert "and 2 more" in ran.out
    assert api.filters == [{"where": WHERE, "dry_run": True}]
    preview = json.loads(comms("resend", "--where", WHERE, "--dry-run", "--json").out)
    assert (preview["count"], len(preview["first"])) == (7, 5)


def test_a_run_goes_through_every_page(comms: Run, api: FakeApi) -> None:
    api.matching = 7
    ran = comms("resend", "--where", WHERE, "--yes", "--rate", "3")
    assert ran.code == 0
    assert "7 sent again" in ran.out
    assert {id_ for _, id_ in api.resent} == {message_id(n) for n in range(1, 8)}
    assert [f.get("cursor") for f in api.filters[1:]] == [None, "3", "6"]
    [run] = {run for run, _ in api.resent}
    assert f"--run-id {run}" in ran.err


@pytest.mark.parametrize("option", ["--run-id", "--nonce"])
def test_a_resumed_run_sends_nothing_twice(comms: Run, api: FakeApi, option: str) -> None:
    api.matching, run = 3, str(uuid4())
    for expected in ({"queued": 3, "known": 0}, {"queued": 0, "known": 3}):
        ran = comms("resend", "--where", WHERE, "--yes", option, run, "--json")
        summary = {"run_id": run, "nonce": run, "refused": []}
        assert json.loads(ran.out) == summary | expected


def test_messages_that_cannot_be_sent_again_are_listed(comms: Run, api: FakeApi) -> None:
    api.matching, api.unsendable = 3, {message_id(2): "Its contents are not kept"}
    ran = comms("resend", "--where", WHERE, "--yes")
    assert ran.code == 1
    assert f"{message_id(2)}: Its contents are not kept" in ran.err
    assert "2 sent again, 1 not sent again" in ran.out


def test_nothing_is_sent_without_confirmation(comms: Run, api: FakeApi) -> None:
    api.matching = 3
    ran = comms("resend", "--where", WHERE)
    assert (ran.code, "--yes" in ran.err) == (1, True)
    assert api.resent == set()


def test_a_filter_without_matches_sends_nothing(comms: Run, api: FakeApi) -> None:
    ran = comms("resend", "--where", WHERE, "--yes")
    assert (ran.code, "No message matches" in ran.out, len(api.filters)) == (0, True, 1)
    summary = json.loads(comms("resend", "--where", WHERE, "--yes", "--json").out)
    assert summary == {"run_id": None, "nonce": None, "queued": 0, "known": 0, "refused": []}


def test_a_wrong_filter_is_one_line_with_the_position(comms: Run, api: FakeApi) -> None:
    ran = comms("resend", "--where", "colour = 'red'", "--dry-run")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "where: at character 1: there is no colour" in ran.err


def test_a_failed_page_is_posted_again_and_the_rate_is_kept(api: FakeApi) -> None:
    api.matching, slept = 5, list[float]()
    api.refuse_next.append(problem(503, "Unavailable"))
    with ApiClient(api.url, Secret(KEY)) as client:
        sizes = [len(p) for p in resend_pages(client, WHERE, uuid4(), rate=2, sleep=slept.append)]
    assert (sizes, len(api.resent)) == ([2, 2, 1], 5)
    assert slept[0] == 0.5
    assert [0 < pause <= 1 for pause in slept[1:]] == [True, True]


def test_a_refusal_ends_the_run(api: FakeApi) -> None:
    api.matching = 5
    api.refuse_next.append(problem(422, "No"))
    with ApiClient(api.url, Secret(KEY)) as client, pytest.raises(ApiRefusedError):
        list(resend_pages(client, WHERE, uuid4(), rate=2))
    assert api.resent == set()


@pytest.mark.parametrize("resolution", ["sent", "failed", "resend"])
def test_an_unknown_message_is_settled(comms: Run, api: FakeApi, resolution: str) -> None:
    ran = comms("resolve", message_id(4), "--as", resolution)
    assert ran.code == 0
    assert api.resolved == [(message_id(4), resolution)]
    assert ("sending" if resolution == "resend" else resolution) in ran.out
    assert json.loads(comms("resolve", message_id(4), "--as", resolution, "--json").out)["status"]


def test_any_other_resolution_is_refused(comms: Run, api: FakeApi) -> None:
    assert comms("resolve", message_id(4), "--as", "perhaps").code == 2
    assert api.resolved == []
