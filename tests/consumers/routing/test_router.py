"""Weights, breakers and the choice among providers, case by case; the tests pass in the time."""

import random
from collections import Counter

import pytest

from comms.platform.settings import RoutingPolicy
from consumers.routing import Route, Router
from consumers.routing.breaker import Breaker
from consumers.routing.weights import CallCounts, Share, adjust_share
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused, TryLater
from schemas.events import ProviderResponse
from schemas.messages import Message
from schemas.vocabulary import Reason
from tests.consumers.harness import Named, sms

POLICY = RoutingPolicy(breaker_failures=3, breaker_rest_seconds=10, breaker_rest_cap_seconds=35)
BROKEN = TryLater(reason=Reason.PROVIDER_ERROR)
MESSAGE: Message = sms()
LIMITED = TryLater(reason=Reason.RATE_LIMITED)


def make_router(**weights: int) -> Router:
    routes = [Route(Named(name), weight) for name, weight in weights.items()]
    return Router(routes, POLICY, source=random.Random(7))


def choose(router: Router, now: float, message: Message = MESSAGE) -> str | None:
    choice = router.choose(message, now)
    return None if choice is None else choice.provider.name


def test_the_choice_follows_the_weights() -> None:
    router = make_router(a=70, b=30, standby=0)
    counts = Counter(choose(router, 0.0) for _ in range(2000))
    assert set(counts) == {"a", "b"}
    assert 1300 < counts["a"] < 1500


def test_after_failures_in_a_row_a_provider_is_paused_and_the_choice_says_so() -> None:
    router = make_router(a=70, b=30)
    for _ in range(3):
        router.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    assert {choose(router, 1.0) for _ in range(50)} == {"b"}
    choice = router.choose(MESSAGE, 1.0)
    assert choice is not None
    assert choice.why == "weight 30 of 30; paused: a"


@pytest.mark.parametrize("good", [Accepted(), Refused(reason=Reason.INVALID_RECIPIENT)])
def test_an_answer_between_failures_keeps_the_breaker_closed(good: Outcome) -> None:
    router = make_router(a=100)
    for outcome in (BROKEN, Ambiguous(), good, BROKEN, BROKEN):
        router.record_outcome("a", outcome, seconds=0.1, now=0.0)
    assert choose(router, 1.0) == "a"


def test_a_provider_that_refuses_the_account_is_paused_at_once_and_for_long() -> None:
    router, response = (
        make_router(a=70, b=30),
        ProviderResponse(code="20003", detail="No +12025550100 here"),
    )
    router.record_outcome("a", AccountError(response=response), seconds=0.1, now=0.0)
    assert {choose(router, POLICY.account_rest_seconds - 1) for _ in range(50)} == {"b"}
    assert router.setup_problem("a") == "account fault: No … here (20003)"
    assert router.setup_problem("b") is None
    assert choose(router, POLICY.account_rest_seconds + 1) == "a"  # a probe
    router.record_outcome("a", Accepted(), seconds=0.1, now=POLICY.account_rest_seconds + 2)
    assert router.setup_problem("a") is None


def test_a_provider_without_its_secret_is_never_chosen() -> None:
    routes = [Route(Named("a"), 100, missing="KEY: not set"), Route(Named("b"), 0)]
    router = Router(routes, POLICY, source=random.Random(7))
    assert {choose(router, 0.0) for _ in range(20)} == {"b"}
    assert router.setup_problem("a") == "KEY: not set"
    assert router.has_available_provider
    alone = Router(routes[:1], POLICY, source=random.Random(7))
    assert not alone.has_available_provider


def test_a_rate_limit_is_no_failure() -> None:
    router = make_router(a=100)
    for _ in range(20):
        router.record_outcome("a", LIMITED, seconds=0.1, now=0.0)
    assert choose(router, 1.0) == "a"


def test_a_provider_of_weight_0_is_chosen_if_no_other_can_be_called() -> None:
    router = make_router(a=100, standby=0)
    for _ in range(3):
        router.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    assert choose(router, 1.0) == "standby"


def test_while_all_providers_rest_none_is_chosen_until_a_probe_succeeds() -> None:
    router = make_router(a=100)
    for _ in range(3):
        router.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    assert choose(router, 9.0) is None
    assert not router.has_available_provider
    assert choose(router, 10.0) == "a"  # one probe
    assert choose(router, 10.0) is None
    router.record_outcome("a", Accepted(), seconds=0.1, now=10.5)
    assert choose(router, 10.5) == "a"
    assert router.has_available_provider


def test_each_probe_that_fails_doubles_the_rest_up_to_its_cap() -> None:
    breaker, now, rests = Breaker(POLICY), 0.0, []
    for _ in range(3):
        breaker.record_failure(now)
    for _ in range(4):
        assert breaker.open_until is not None
        rests.append(breaker.open_until - now)
        now = breaker.open_until
        breaker.record_start(now)
        breaker.record_failure(now)
    assert rests == [10, 20, 35, 35]


def test_a_released_probe_lets_another_call_be_the_probe() -> None:
    router = make_router(a=50)
    for _ in range(POLICY.breaker_failures):
        router.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    after = POLICY.breaker_rest_seconds + 1
    probe = router.choose(MESSAGE, after)
    assert probe is not None
    assert router.choose(MESSAGE, after) is None, "one probe at a time"
    router.release(probe)
    assert router.choose(MESSAGE, after) is not None


def test_the_alternative_to_a_failed_provider_works_and_has_a_weight() -> None:
    router = make_router(a=70, b=20, c=10, standby=0)
    choices = [router.alternative_to(sms(), "a", 0.0) for _ in range(300)]
    counts = Counter(choice.provider.name for choice in choices if choice is not None)
    assert set(counts) == {"b", "c"}
    assert counts["b"] > counts["c"]
    for name in ("b", "c"):
        for _ in range(3):
            router.record_outcome(name, BROKEN, seconds=0.1, now=0.0)
    assert router.alternative_to(sms(), "a", 1.0) is None
    after_rest = POLICY.breaker_rest_seconds + 1
    assert router.alternative_to(sms(), "a", after_rest) is None, "a failed message is no probe"


def test_the_router_knows_which_providers_recognise_repeated_calls() -> None:
    routes = [Route(Named("a"), 1, has_idempotency_key=True), Route(Named("b"), 1)]
    router = Router(routes, POLICY, source=random.Random(7))
    assert [router.has_idempotency_key(name) for name in ("a", "b", "removed")] == [
        True,
        False,
        False,
    ]


def test_a_call_in_doubt_is_repeated_by_its_provider_or_waits() -> None:
    router = make_router(a=1, b=99)
    choice = router.same_provider("a", 0.0)
    assert choice is not None
    assert choice.provider.name == "a"
    for _ in range(3):
        router.record_outcome("a", Ambiguous(), seconds=0.1, now=0.0)
    assert router.same_provider("a", 1.0) is None


def test_a_weight_falls_in_steps_to_its_floor_and_rises_in_steps() -> None:
    policy = RoutingPolicy(step=10, step_seconds=10, recover_seconds=300, floor=5)
    bad, good = CallCounts(100, 50, 0), CallCounts(100, 0, 0)
    share, weights, now = Share(30, 0.0), [], 10.0
    for _ in range(4):
        share = adjust_share(share, bad, configured=30, policy=policy, now=now)
        weights.append(share.weight)
        now += 10
    assert weights == [20, 10, 5, 5]
    unchanged = adjust_share(share, good, configured=30, policy=policy, now=now + 280)
    assert unchanged.weight == 5  # enough good time has to pass first
    for expected in (15, 25, 30, 30):
        now += 310
        share = adjust_share(share, good, configured=30, policy=policy, now=now)
        assert share.weight == expected


def test_too_few_calls_change_no_weight() -> None:
    share = Share(50, 0.0)
    counts = CallCounts(calls=19, errors=19, slow=19)
    assert adjust_share(share, counts, configured=50, policy=RoutingPolicy(), now=1000) == share


def test_a_paused_provider_comes_back_with_the_smallest_share_and_by_steps() -> None:
    policy, no_calls, good = RoutingPolicy(), CallCounts(), CallCounts(calls=100)
    share = adjust_share(
        Share(50, 0.0), no_calls, configured=50, policy=policy, now=1000.0, is_open=True
    )
    assert share == Share(policy.floor, 1000.0)
    later = 1000.0 + 2 * policy.recover_seconds
    share = adjust_share(share, no_calls, configured=50, policy=policy, now=later, is_open=True)
    assert share.weight == policy.floor, "a pause does not count as good time"
    back = later + policy.recover_seconds
    assert adjust_share(share, good, configured=50, policy=policy, now=back - 1) == share
    assert (
        adjust_share(share, good, configured=50, policy=policy, now=back).weight
        == policy.floor + 10
    )
