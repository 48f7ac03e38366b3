"""What `--wait` concludes, by a clock of the test's own."""

from collections.abc import Iterator

import pytest

from comms.cli.follow import QUIET_SECONDS, follow
from comms.client import ApiClient, ApiRefusedError
from comms.platform.settings import Secret
from tests.comms.cli.fake_api import KEY, FakeApi, life, message_id, problem, serving


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serving(FakeApi()) as served:
        yield served


def ended(api: FakeApi, *, seconds: float = 60.0) -> tuple[int, float]:
    """The exit code and how long it took."""
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


def test_sent_without_a_receipt_ends_well_after_a_quiet_while(api: FakeApi) -> None:
    api.lives.append(life(1, "pending", "sending", "sent"))
    code, took = ended(api)
    assert code == 0
    assert took == pytest.approx(QUIET_SECONDS, abs=0.5)


def test_a_receipt_within_the_quiet_while_counts(api: FakeApi) -> None:
    sent, failed = ("sending", "sent"), ("sending", "sent", "failed")
    api.lives.extend([life(1, *sent), life(1, *sent), life(1, *failed)])
    assert ended(api) == (1, 0.5)


def test_sending_is_waited_for_until_the_time_is_over(api: FakeApi) -> None:
    api.lives.append(life(1, "pending", "sending"))
    assert ended(api, seconds=5.0) == (3, 5.0)


def test_an_api_that_cannot_answer_now_is_asked_again(api: FakeApi) -> None:
    api.refuse_next.append(problem(503, "Away"))
    api.lives.append(life(1, "delivered"))
    assert ended(api) == (0, 0.25)


def test_an_api_that_refuses_ends_it(api: FakeApi) -> None:
    api.refuse_next.append(problem(404, "There is no such message"))
    with pytest.raises(ApiRefusedError, match=r"There is no such message \(HTTP 404\)"):
        ended(api)
