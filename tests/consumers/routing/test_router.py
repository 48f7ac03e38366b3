"""Weights, breakers and the choice among providers, case by case, with a clock passed in."""

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


def router(**weights: int) -> Router:
    routes = [Route(Named(name), weight) for name, weight in weights.items()]
    return Router(routes, POLICY, source=random.Random(7))


def chosen(found: Router, now: float, message: Message = MESSAGE) -> str | None:
    choice = found.choose(message, now)
    return None if choice is None else choice.provider.name


def test_the_choice_follows_the_weights() -> None:
    found = router(a=70, b=30, standby=0)
    counts = Counter(chosen(found, 0.0) for _ in range(2000))
    assert set(counts) == {"a", "b"}
    assert 1300 < counts["a"] < 1500


def test_after_failures_in_a_row_a_provider_is_left_alone_and_the_choice_says_so() -> None:
    found = router(a=70, b=30)
    for _ in range(3):
        found.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    assert {chosen(found, 1.0) for _ in range(50)} == {"b"}
    choice = found.choose(MESSAGE, 1.0)
    assert choice is not None
    assert choice.why == "weight 30 of 30; paused: a"


@pytest.mark.parametrize("good", [Accepted(), Refused(reason=Reason.INVALID_RECIPIENT)])
def test_an_answer_between_failures_keeps_the_breaker_closed(good: Outcome) -> None:
    found = router(a=100)
    for outcome in (BROKEN, Ambiguous(), good, BROKEN, BROKEN):
        found.record_outcome("a", outcome, seconds=0.1, now=0.0)
    assert chosen(found, 1.0) == "a"


def test_a_provider_that_refuses_the_account_is_left_alone_at_once_and_for_long() -> None:
    found, response = (
        router(a=70, b=30),
        ProviderResponse(code="20003", detail="No +12025550100 here"),
    )
    found.record_outcome("a", AccountError(response=response), seconds=0.1, now=0.0)
    assert {chosen(found, POLICY.account_rest_seconds - 1) for _ in range(50)} == {"b"}
    assert found.setup_problem("a") == "account fault: No … here (20003)"
    assert found.setup_problem("b") is None
    assert chosen(found, POLICY.account_rest_seconds + 1) == "a"  # a probe
    found.record_outcome("a", Accepted(), seconds=0.1, now=POLICY.account_rest_seconds + 2)
    assert found.setup_problem("a") is None


def test_a_provider_without_its_secret_is_never_chosen() -> None:
    routes = [Route(Named("a"), 100, missing="KEY: not set"), Route(Named("b"), 0)]
    found = Router(routes, POLICY, source=random.Random(7))
    assert {chosen(found, 0.0) for _ in range(20)} == {"b"}
    assert found.setup_problem("a") == "KEY: not set"
    assert found.has_available_provider
    alone = Router(routes[:1], POLICY, source=random.Random(7))
    assert not alone.has_available_provider


def test_being_asked_to_wait_is_no_failure() -> None:
    found = router(a=100)
    for _ in range(20):
        found.record_outcome("a", LIMITED, seconds=0.1, now=0.0)
    assert chosen(found, 1.0) == "a"


def test_the_one_for_emergencies_is_taken_when_no_other_can_be_called() -> None:
    found = router(a=100, standby=0)
    for _ in range(3):
        found.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    assert chosen(found, 1.0) == "standby"


def test_with_nobody_left_nobody_is_chosen_and_a_probe_opens_the_way_again() -> None:
    found = router(a=100)
    for _ in range(3):
        found.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    assert chosen(found, 9.0) is None
    assert not found.has_available_provider
    assert chosen(found, 10.0) == "a"  # one probe
    assert chosen(found, 10.0) is None
    found.record_outcome("a", Accepted(), seconds=0.1, now=10.5)
    assert chosen(found, 10.5) == "a"
    assert found.has_available_provider


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


def test_a_probe_that_was_not_made_leaves_its_turn_to_the_next() -> None:
    found = router(a=50)
    for _ in range(POLICY.breaker_failures):
        found.record_outcome("a", BROKEN, seconds=0.1, now=0.0)
    after = POLICY.breaker_rest_seconds + 1
    probe = found.choose(MESSAGE, after)
    assert probe is not None
    assert found.choose(MESSAGE, after) is None, "one probe at a time"
    found.release(probe)
    assert found.choose(MESSAGE, after) is not None


def test_instead_of_one_that_failed_another_is_taken_that_works_and_has_a_weight() -> None:
    found = router(a=70, b=20, c=10, standby=0)
    taken = [found.alternative_to(sms(), "a", 0.0) for _ in range(300)]
    counts = Counter(choice.provider.name for choice in taken if choice is not None)
    assert set(counts) == {"b", "c"}
    assert counts["b"] > counts["c"]
    for name in ("b", "c"):
        for _ in range(3):
            found.record_outcome(name, BROKEN, seconds=0.1, now=0.0)
    assert found.alternative_to(sms(), "a", 1.0) is None
    rested = POLICY.breaker_rest_seconds + 1
    assert found.alternative_to(sms(), "a", rested) is None, "in trouble already, it is no probe"


def test_a_call_that_may_be_made_twice_is_made_by_whom_knows_it() -> None:
    routes = [Route(Named("a"), 1, knows_repeats=True), Route(Named("b"), 1)]
    found = Router(routes, POLICY, source=random.Random(7))
    assert [found.knows_repeats(name) for name in ("a", "b", "gone")] == [True, False, False]


def test_a_call_in_doubt_goes_to_the_provider_that_made_it_or_waits() -> None:
    found = router(a=1, b=99)
    choice = found.same_provider("a", 0.0)
    assert choice is not None
    assert choice.provider.name == "a"
    for _ in range(3):
        found.record_outcome("a", Ambiguous(), seconds=0.1, now=0.0)
    assert found.same_provider("a", 1.0) is None


def test_a_weight_moves_away_in_steps_to_its_floor_and_back_in_steps() -> None:
    policy = RoutingPolicy(step=10, step_seconds=10, recover_seconds=300, floor=5)
    bad, good = CallCounts(100, 50, 0), CallCounts(100, 0, 0)
    share, seen, now = Share(30, 0.0), [], 10.0
    for _ in range(4):
        share = adjust_share(share, bad, configured=30, policy=policy, now=now)
        seen.append(share.weight)
        now += 10
    assert seen == [20, 10, 5, 5]
    unchanged = adjust_share(share, good, configured=30, policy=policy, now=now + 280)
    assert unchanged.weight == 5  # a good while has to pass first
    for expected in (15, 25, 30, 30):
        now += 310
        share = adjust_share(share, good, configured=30, policy=policy, now=now)
        assert share.weight == expected


def test_too_few_calls_are_not_judged() -> None:
    share = Share(50, 0.0)
    window = CallCounts(calls=19, errors=19, slow=19)
    assert adjust_share(share, window, configured=50, policy=RoutingPolicy(), now=1000) == share


def test_one_that_was_left_alone_comes_back_with_the_least_share_and_by_steps() -> None:
    policy, nothing, good = RoutingPolicy(), CallCounts(), CallCounts(calls=100)
    share = adjust_share(
        Share(50, 0.0), nothing, configured=50, policy=policy, now=1000.0, is_open=True
    )
    assert share == Share(policy.floor, 1000.0)
    later = 1000.0 + 2 * policy.recover_seconds
    share = adjust_share(share, nothing, configured=50, policy=policy, now=later, is_open=True)
    assert share.weight == policy.floor, "time spent alone is no good behaviour"
    back = later + policy.recover_seconds
    assert adjust_share(share, good, configured=50, policy=policy, now=back - 1) == share
    assert (
        adjust_share(share, good, configured=50, policy=policy, now=back).weight
        == policy.floor + 10
    )
