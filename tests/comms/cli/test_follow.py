"""The exit codes of `--wait`, with a fake clock."""

from collections.abc import Iterator

import pytest

from comms.cli.follow import QUIET_SECONDS, follow
from comms.client import ApiClient, ApiRefusedError
from comms.platform.settings import Secret
from tests.comms.cli.fake_api import KEY, FakeApi, message, message_id, problem, serving


class Clock:
    """A clock that advances only during `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the current time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A fake API."""
    with serving(FakeApi()) as served:
        yield served


def run_follow(api: FakeApi, *, seconds: float = 60.0) -> tuple[int, float]:
    """Follow a message; return the exit code and the seconds it took."""
    clock = Clock()
    with ApiClient(api.url, Secret(KEY)) as client:
        result = follow(
            client,
            message_id(1),
            seconds=seconds,
            on_event=lambda _: None,
            now=clock,
            sleep=clock.sleep,
        )
    return result.code, clock.now


def test_sent_without_a_receipt_is_a_success_after_the_quiet_time(api: FakeApi) -> None:
    api.states.append(message(1, "pending", "sending", "sent"))
    code, took = run_follow(api)
    assert code == 0
    assert took == pytest.approx(QUIET_SECONDS, abs=0.5)


def test_a_receipt_within_the_quiet_time_decides(api: FakeApi) -> None:
    sent, failed = ("sending", "sent"), ("sending", "sent", "failed")
    api.states.extend([message(1, *sent), message(1, *sent), message(1, *failed)])
    assert run_follow(api) == (1, 0.5)


def test_a_status_that_is_not_final_is_polled_until_the_time_is_over(api: FakeApi) -> None:
    api.states.append(message(1, "pending", "sending"))
    assert run_follow(api, seconds=5.0) == (3, 5.0)


def test_a_temporary_error_of_the_api_is_retried(api: FakeApi) -> None:
    api.refuse_next.append(problem(503, "Unavailable"))
    api.states.append(message(1, "delivered"))
    assert run_follow(api) == (0, 0.25)


def test_an_error_of_the_api_ends_the_command(api: FakeApi) -> None:
    api.refuse_next.append(problem(404, "There is no such message"))
    with pytest.raises(ApiRefusedError, match=r"There is no such message \(HTTP 404\)"):
        run_follow(api)
