"""The simulated provider's own process: its book of calls, manners, settings and receipts."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from comms.platform.clock import utc_now
from comms.platform.settings import SettingsError, load
from consumers.sdk.receipts import Receipt
from consumers.simulator.adapter import SimulatedReceipts
from consumers.simulator.behaviour import Behaviour, Manners, Result, Word
from consumers.simulator.options import read
from consumers.simulator.server import SimulatorServer
from tests.consumers.contract.samples import SECRET, closed_port, until

ELSEWHERE = "+491701234567"
REF = "0190163d-8694-739b-aea5-966020000001"


class Inbox:
    """Keeps what is posted to it; answers with the statuses it was told, then 204."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.receipts: list[Receipt] = []
        self.requests = 0
        self._parser = SimulatedReceipts(SECRET, utc_now)

    async def take(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        self.receipts += self._parser.parse(headers, body, str(request.url))
        return web.Response(status=204)


@asynccontextmanager
async def serving(inbox: Inbox, port: int = 0) -> AsyncIterator[str]:
    """The URL that `inbox` is served on."""
    app = web.Application()
    app.router.add_post("/receipts", inbox.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/receipts"
    finally:
        await runner.cleanup()


def request_to(to: str, *, ref: str = "m-1", callback: str = "") -> dict[str, object]:
    return {"client_ref": ref, "attempt": 1, "to": to, "digest": "d", "callback_url": callback}


async def post(url: str, request: Mapping[str, object], channel: str = "sms") -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/{channel}/messages", json=request) as answer,
    ):
        await answer.read()
        return answer.status


async def get(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def test_the_book_counts_calls_messages_and_double_acceptances(
    simulator: SimulatorServer,
) -> None:
    for ref in ("a", "a", "a", "b"):
        assert await post(simulator.url, request_to(ELSEWHERE, ref=ref)) == 201
    assert await post(simulator.url, request_to("+12025550101", ref="c"), "voice") == 400
    summary = await get(f"{simulator.url}/calls/summary")
    totals = {name: summary[name] for name in ("calls", "messages", "accepted", "duplicates")}
    assert totals == {"calls": 5, "messages": 3, "accepted": 4, "duplicates": 1}
    voice = summary["by_channel"]["voice"]
    assert voice == {"calls": 1, "messages": 1, "accepted": 0, "duplicates": 0}
    calls = (await get(f"{simulator.url}/calls?message_id=a"))["items"]
    assert [call["result"] for call in calls] == ["accepted"] * 3
    assert ELSEWHERE not in json.dumps(calls)


async def test_a_call_that_is_never_answered_is_in_the_book(simulator: SimulatorServer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await post(simulator.url, request_to("+12025550105"))
    summary = await get(f"{simulator.url}/calls/summary")
    assert (summary["calls"], summary["accepted"]) == (1, 0)


async def test_a_caller_that_goes_away_does_not_undo_its_message(
    simulator: SimulatorServer,
) -> None:
    inbox = Inbox()
    async with serving(inbox) as callback:
        slow = request_to("+12025550106", ref=REF, callback=callback)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await post(simulator.url, slow)
        await until(lambda: len(inbox.receipts) == 1)
    assert (await get(f"{simulator.url}/calls/summary"))["accepted"] == 1


async def test_the_journal_outlives_the_process(tmp_path: Path) -> None:
    journal = tmp_path / "calls.jsonl"
    options = read(load({"COMMS_SIMULATOR_JOURNAL": str(journal)}))
    first = SimulatorServer(options, SECRET)
    await first.start()
    await post(first.url, request_to(ELSEWHERE))
    await first.stop()
    with journal.open("ab") as torn:
        torn.write(b'{"message_id": "m-')  # killed in the middle of a line
    second = SimulatorServer(options, SECRET)
    await second.start()
    assert (await get(f"{second.url}/calls/summary"))["accepted"] == 1
    await second.stop()


@pytest.mark.parametrize(
    "change",
    [
        lambda request: request.pop("client_ref"),
        lambda request: request.update(to=7),
        lambda request: request.update(attempt="first"),
    ],
)
async def test_a_request_that_lacks_something_is_refused(
    simulator: SimulatorServer, change: Callable[[dict[str, object]], object]
) -> None:
    request = request_to(ELSEWHERE)
    change(request)
    assert await post(simulator.url, request) == 422
    assert await post(simulator.url, request_to(ELSEWHERE), "pigeon") == 422
    assert (await get(f"{simulator.url}/calls/summary"))["calls"] == 0


async def test_receipts_say_what_the_recipient_stands_for(simulator: SimulatorServer) -> None:
    inbox = Inbox()
    async with serving(inbox) as callback:
        id_of = {word: f"0190163d-8694-739b-aea5-96602000000{word}" for word in range(10)}
        for word in (0, 4, 7):
            to = f"+1202555010{word}"
            await post(simulator.url, request_to(to, ref=id_of[word], callback=callback))
        await until(lambda: len(inbox.receipts) == 2)
    said = {str(receipt.message_id): receipt.delivered for receipt in inbox.receipts}
    assert said == {id_of[0]: True, id_of[7]: False}
    assert all(receipt.response.provider_message_id for receipt in inbox.receipts)


async def test_receipts_wait_for_an_endpoint_that_is_away(simulator: SimulatorServer) -> None:
    port = closed_port()
    callback = f"http://127.0.0.1:{port}/receipts"
    await post(simulator.url, request_to(ELSEWHERE, ref=REF, callback=callback))
    inbox = Inbox(503)
    async with serving(inbox, port):
        await until(lambda: len(inbox.receipts) == 1)
    assert inbox.requests == 2


async def test_a_refused_receipt_is_not_repeated(simulator: SimulatorServer) -> None:
    inbox = Inbox(403)
    async with serving(inbox) as callback:
        await post(simulator.url, request_to(ELSEWHERE, ref=REF, callback=callback))
        await until(lambda: inbox.requests == 1)
        await post(simulator.url, request_to(ELSEWHERE, ref=REF, callback=callback))
        await until(lambda: len(inbox.receipts) == 1)
    assert inbox.requests == 2


def test_the_dice_fall_alike_for_one_seed() -> None:
    manners = Manners(error_rate=0.3, latency_jitter=0.5)

    def fates(seed: int) -> list[tuple[Result, float]]:
        behaviour = Behaviour(manners, seed=seed)
        found = [behaviour.decide(Word.DELIVERED, call=1, now=n) for n in range(1000)]
        return [(one.result, one.seconds) for one in found]

    assert fates(1) == fates(1) != fates(2)
    errors = sum(result is Result.UNAVAILABLE for result, _ in fates(1))
    assert 250 < errors < 350
    median = sorted(seconds for _, seconds in fates(1))[500]
    assert median == pytest.approx(0.05, rel=0.1)


def test_the_rate_limit_lets_its_rate_through() -> None:
    behaviour = Behaviour(Manners(rate_limit_per_second=100), seed=1)
    results = [behaviour.decide(Word.DELIVERED, call=1, now=n / 1000).result for n in range(10_000)]
    assert 1000 <= results.count(Result.ACCEPTED) <= 1011
    assert results.count(Result.LIMITED) == 10_000 - results.count(Result.ACCEPTED)


def test_settings_of_a_channel_go_over_those_of_the_whole(tmp_path: Path) -> None:
    file = tmp_path / "comms.toml"
    file.write_text(
        "[simulator]\nlatency_ms = 10\nerror_rate = 0.5\n[simulator.sms]\nlatency_ms = 3"
    )
    environment = {
        "COMMS_CONFIG": str(file),
        "COMMS_SIMULATOR_ERROR_RATE": "0.25",
        "COMMS_SIMULATOR_VOICE_LATENCY_MS": "7",
    }
    manners = {str(name): own for name, own in read(load(environment)).manners.items()}
    latencies = {name: own.latency_ms for name, own in manners.items()}
    assert latencies == {"sms": 3, "email": 10, "push": 10, "voice": 7}
    assert {own.error_rate for own in manners.values()} == {0.25}


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ("[simulator]\nlatency = 1", "simulator.latency"),
        ("[simulator]\nlatency_ms = 'slow'", "simulator.latency_ms"),
        ("[simulator]\nerror_rate = 2", "simulator.error_rate"),
        ("[simulator.sms]\nseed = 2", "simulator.sms.seed"),
        ("[simulator.email]\nlatency_ms = -1", "simulator.email.latency_ms"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, toml: str, key: str) -> None:
    file = tmp_path / "comms.toml"
    file.write_text(toml)
    with pytest.raises(SettingsError) as caught:
        read(load({"COMMS_CONFIG": str(file)}))
    assert caught.value.key == key
