"""What the processes of a channel hold in common about its providers, on a real database."""

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import create_pool
from comms.platform.kafka import Broker
from comms.platform.settings import RoutingPolicy
from consumers.routing import Route, Router
from consumers.routing.rate_limit import BURST_SECONDS, ProviderRateLimits
from consumers.routing.sharing import RouteSharing
from consumers.sdk.outcomes import Accepted, TryLater
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.harness import (
    Named,
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    simulator,
    sms,
)

POLICY = RoutingPolicy(breaker_failures=3, step_seconds=0)
BROKEN = TryLater(reason=Reason.PROVIDER_ERROR)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[AsyncConnectionPool]:
    made = create_pool(database_url, size=4, name="test")
    await made.open()
    yield made
    await made.close()


def process(
    pool: AsyncConnectionPool, policy: RoutingPolicy = POLICY
) -> tuple[Router, RouteSharing]:
    routes = [Route(Named("a"), 70), Route(Named("b"), 30)]
    router = Router(routes, policy, source=random.Random(1))
    return router, RouteSharing(pool, router, channel=Channel.SMS, policy=policy)


async def test_a_breaker_opened_in_one_process_is_open_in_the_other_and_closes_there_too(
    pool: AsyncConnectionPool,
) -> None:
    (one, ones), (other, others) = process(pool), process(pool)
    now = asyncio.get_running_loop().time()
    for _ in range(3):
        one.record_outcome("a", BROKEN, seconds=0.1, now=now)
    await ones.synchronize()
    await others.synchronize()
    assert other.pause_reason("a") is not None
    other.record_outcome("a", Accepted(), seconds=0.1, now=now)  # its probe succeeds
    await others.synchronize()
    await ones.synchronize()
    assert one.pause_reason("a") is None


async def test_calls_of_all_processes_together_move_a_weight_in_all(
    pool: AsyncConnectionPool, database_url: str
) -> None:
    one, ones = process(pool)
    other, others = process(
        pool, POLICY.model_copy(update={"step_seconds": 3600})
    )  # it takes no step itself
    for router in (one, other):
        for _ in range(12):  # too few in each to be judged alone
            router.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
            router.record_outcome("a", Accepted(), seconds=0.1, now=0.0)
    await ones.synchronize()
    await others.synchronize()
    assert one.states["a"].weight == 70  # the present slot is not over
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute("UPDATE consumers.route_slot SET slot = slot - interval '20 s'")
    await ones.synchronize()
    await others.synchronize()
    assert (one.states["a"].weight, other.states["a"].weight) == (60, 60)
    assert one.states["b"].weight == 30


async def test_leases_never_add_up_to_more_than_the_limit(pool: AsyncConnectionPool) -> None:
    rate = 200.0
    workers = [ProviderRateLimits(pool, {"a": rate}, channel=Channel.SMS) for _ in range(4)]
    for worker in workers:
        assert not worker.allows("a")
    await workers[0]._insert_rows()
    began, granted = monotonic(), 0
    while granted < 500:
        granted += sum(await asyncio.gather(*(worker.lease("a") for worker in workers)))
    assert granted <= rate * (monotonic() - began) + rate * BURST_SECONDS
    assert any(worker.allows("a") for worker in workers)


async def test_what_was_leased_is_spent_call_by_call(pool: AsyncConnectionPool) -> None:
    limits = ProviderRateLimits(pool, {"a": 8.0}, channel=Channel.SMS)
    await limits._insert_rows()
    granted = 0
    while granted == 0:
        granted = await limits.lease("a")
    for _ in range(granted):
        assert limits.allows("a")
        limits.spend("a")
    assert not limits.allows("a")
    assert limits.allows("unlimited")


class _Moody(ThreadingHTTPServer):
    """A provider that answers 500 until it works."""

    works = False


class _Answer(BaseHTTPRequestHandler):
    server: _Moody

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(201 if self.server.works else 500)

    def do_GET(self) -> None:
        self._say(200)

    def _say(self, status: int) -> None:
        body = json.dumps({"id": "moody-1"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def moody() -> Iterator[_Moody]:
    server = _Moody(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


ROUTING = """
[sms.retry]
base_seconds = 0.1
[sms.routing]
breaker_failures = 3
breaker_rest_seconds = 0.5
breaker_rest_cap_seconds = 1
[[sms.providers]]
name = "moody"
type = "simulated"
weight = 95
url = "http://127.0.0.1:{port}"
"""


def test_when_one_provider_fails_messages_arrive_by_the_other(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    with moody() as server:
        config.write_text(
            ROUTING.format(port=server.server_port)
            + '[[sms.providers]]\nname = "simulated"\nweight = 5\n'
        )
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        messages = [sms(to=f"+1212555{number:04d}") for number in range(40)]
        with simulator(settings) as provider, listener(broker) as heard, channel(settings):
            publish(broker, *messages)
            sent = [heard.wait_for(message.id, Status.SENT) for message in messages]
            assert {event.provider for event in sent} == {"simulated"}
            assert [provider.calls(message.id) for message in messages] == [1] * 40
    details = [e.detail or "" for events in heard.events.values() for e in events]
    assert any("paused: moody" in detail for detail in details)


def test_with_no_provider_left_the_channel_pauses_says_so_and_goes_on_afterwards(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    with moody() as server:
        config.write_text(ROUTING.format(port=server.server_port))
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        messages = [sms(to=f"+1212556{number:04d}") for number in range(40)]
        with (
            listener(broker) as heard,
            channel(settings),
            psycopg.connect(database_url, autocommit=True) as session,
        ):
            publish(broker, *messages)

            def is_paused() -> bool:
                rows = session.execute("SELECT providers FROM consumers.worker").fetchall()
                return any(p["readiness"] == "paused" for (said,) in rows for p in said)

            eventually(is_paused, "the channel says that it waits")
            server.works = True
            attempts = [heard.wait_for(m.id, Status.SENT).attempt for m in messages]
    assert max(attempts) < settings.channels[Channel.SMS].retry.attempts
