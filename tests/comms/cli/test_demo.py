"""Sample traffic: every message is valid, and an unreachable API is retried."""

import random
import threading
from datetime import UTC, datetime, timedelta

import pytest

from comms.client import KEY_FILE
from comms.demo import customers, run_demo, sample
from comms.platform.settings import load
from producer.building import Stamp, to_message
from producer.requests import parse
from schemas.ids import new_message_id
from schemas.rules import violations
from tests.comms.cli.fake_api import KEY, FakeApi, problem

NOW = datetime.now(UTC)


def test_every_sample_is_a_valid_message() -> None:
    chance = random.Random(7)
    channels, workflows, recipients = set(), set(), set()
    for _ in range(2000):
        posted = sample(customers(), chance, NOW)
        stamp = Stamp(tenant="acme", id=new_message_id(), created_at=NOW)
        assert violations(to_message(parse(posted), stamp)) == ()
        channels.add(posted["channel"])
        workflows.add(posted["workflow"])
        recipients.add(posted["to"])
    assert channels == {"sms", "email", "push", "voice"}
    assert {"visit-reminder", "estimate-follow-up", "invoice"} <= workflows
    magic = {"+12025550101", "temporary@simulator.example.com", "simulator:undelivered"}
    assert magic <= recipients


def test_no_sample_can_reach_a_real_person() -> None:
    for customer in customers():
        assert customer.number.startswith("+120255501")
        assert customer.address.endswith("@simulator.example.com>")
        assert customer.device.startswith("simulator:")


class Stop(threading.Event):
    """An event that sets itself after enough messages; its waits take no time and are recorded."""

    def __init__(self, api: FakeApi, *, messages: int) -> None:
        super().__init__()
        self._api = api
        self._messages = messages
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Record the timeout and return at once."""
        self.waits.append(timeout or 0.0)
        if len(self._api.messages) >= self._messages or len(self.waits) > 200:
            self.set()
        return self.is_set()


def test_it_posts_until_it_is_stopped(api: FakeApi) -> None:
    run_demo(load(), Stop(api, messages=20))
    assert len(api.messages) == 20


def test_it_waits_longer_after_each_error_and_then_continues(api: FakeApi) -> None:
    api.refuse_next.extend(problem(503, "Unavailable") for _ in range(3))
    stop = Stop(api, messages=1)
    run_demo(load(), stop)
    assert stop.waits[:3] == [1.0, 2.0, 4.0]
    assert len(api.messages) == 1


def test_it_waits_for_the_api_key(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMMS_API_KEY")
    settings = load()

    class KeyArrives(Stop):
        """An event that writes the key during a wait."""

        def wait(self, timeout: float | None = None) -> bool:
            """Write the key."""
            settings.data_dir.mkdir(exist_ok=True)
            (settings.data_dir / KEY_FILE).write_text(KEY)
            return super().wait(timeout)

    run_demo(settings, KeyArrives(api, messages=1))
    assert len(api.messages) == 1


def test_a_reminder_expires() -> None:
    chance = random.Random(1)
    samples = [sample(customers(), chance, NOW) for _ in range(50)]
    expiring = [s["expires_at"] for s in samples if s["workflow"] == "visit-reminder"]
    assert expiring
    assert set(expiring) == {(NOW + timedelta(hours=12)).isoformat()}
