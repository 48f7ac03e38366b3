"""What the processes of a channel share about its providers, with a real database."""

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
    opened = create_pool(database_url, size=4, name="test")
    await opened.open()
    yield opened
    await opened.close()


def make_process(
    pool: AsyncConnectionPool, policy: RoutingPolicy = POLICY
) -> tuple[Router, RouteSharing]:
    routes = [Route(Named("a"), 70), Route(Named("b"), 30)]
    router = Router(routes, policy, source=random.Random(1))
    return router, RouteSharing(pool, router, channel=Channel.SMS, policy=policy)


async def test_a_breaker_opens_and_closes_in_all_processes(
    pool: AsyncConnectionPool,
) -> None:
    (first, first_sharing), (second, second_sharing) = make_process(pool), make_process(pool)
    now = asyncio.get_running_loop().time()
    for _ in range(3):
        first.record_outcome("a", BROKEN, seconds=0.1, now=now)
    await first_sharing.synchronize()
    await second_sharing.synchronize()
    assert second.pause_reason("a") is not None
    second.record_outcome("a", Accepted(), seconds=0.1, now=now)  # its probe succeeds
    await second_sharing.synchronize()
    await first_sharing.synchronize()
    assert first.pause_reason("a") is None


async def test_calls_of_all_processes_together_move_the_weight_in_all(
    pool: AsyncConnectionPool, database_url: str
) -> None:
    first, first_sharing = make_process(pool)
    second, second_sharing = make_process(
        pool, POLICY.model_copy(update={"step_seconds": 3600})
    )  # it takes no step itself
    for router in (first, second):
        for _ in range(12):  # too few in each to be judged alone
            router.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
            router.record_outcome("a", Accepted(), seconds=0.1, now=0.0)
    await first_sharing.synchronize()
    await second_sharing.synchronize()
    assert first.states["a"].weight == 70  # the present slot is not over
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute("UPDATE consumers.route_slot SET slot = slot - interval '20 s'")
    await first_sharing.synchronize()
    await second_sharing.synchronize()
    assert (first.states["a"].weight, second.states["a"].weight) == (60, 60)
    assert first.states["b"].weight == 30


async def test_leases_never_add_up_to_more_than_the_limit(pool: AsyncConnectionPool) -> None:
    rate = 200.0
    workers = [ProviderRateLimits(pool, {"a": rate}, channel=Channel.SMS) for _ in range(4)]
    for worker in workers:
        assert not worker.allows("a")
    await workers[0]._insert_rows()
    started, leased = monotonic(), 0
    while leased < 500:
        leased += sum(await asyncio.gather(*(worker.lease("a") for worker in workers)))
    assert leased <= rate * (monotonic() - started) + rate * BURST_SECONDS
    assert any(worker.allows("a") for worker in workers)


async def test_a_lease_is_spent_call_by_call(pool: AsyncConnectionPool) -> None:
    limits = ProviderRateLimits(pool, {"a": 8.0}, channel=Channel.SMS)
    await limits._insert_rows()
    leased = 0
    while leased == 0:
        leased = await limits.lease("a")
    for _ in range(leased):
        assert limits.allows("a")
        limits.spend("a")
    assert not limits.allows("a")
    assert limits.allows("unlimited")


class _BrokenServer(ThreadingHTTPServer):
    """A provider that answers 500 until it works."""

    works = False


class _Handler(BaseHTTPRequestHandler):
    server: _BrokenServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201 if self.server.works else 500)

    def do_GET(self) -> None:
        self._answer(200)

    def _answer(self, status: int) -> None:
        body = json.dumps({"id": "moody-1"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def broken_provider() -> Iterator[_BrokenServer]:
    server = _BrokenServer(("127.0.0.1", 0), _Handler)
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


def test_messages_arrive_by_the_other_provider_when_one_fails(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    with broken_provider() as server:
        config.write_text(
            ROUTING.format(port=server.server_port)
            + '[[sms.providers]]\nname = "simulated"\nweight = 5\n'
        )
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        messages = [sms(to=f"+1212555{number:04d}") for number in range(40)]
        with simulator(settings) as provider, listener(broker) as status_topic, channel(settings):
            publish(broker, *messages)
            sent = [status_topic.wait_for(message.id, Status.SENT) for message in messages]
            assert {event.provider for event in sent} == {"simulated"}
            assert [provider.calls(message.id) for message in messages] == [1] * 40
    details = [e.detail or "" for events in status_topic.events.values() for e in events]
    assert any("paused: moody" in detail for detail in details)


def test_without_a_working_provider_the_channel_pauses_and_resumes(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    with broken_provider() as server:
        config.write_text(ROUTING.format(port=server.server_port))
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        messages = [sms(to=f"+1212556{number:04d}") for number in range(40)]
        with (
            listener(broker) as status_topic,
            channel(settings),
            psycopg.connect(database_url, autocommit=True) as session,
        ):
            publish(broker, *messages)

            def is_paused() -> bool:
                rows = session.execute("SELECT providers FROM consumers.worker").fetchall()
                return any(p["readiness"] == "paused" for (providers,) in rows for p in providers)

            eventually(is_paused, "the channel is reported as paused")
            server.works = True
            attempts = [status_topic.wait_for(m.id, Status.SENT).attempt for m in messages]
    assert max(attempts) < settings.channels[Channel.SMS].retry.attempts
