"""Routing: only available providers are called, and a provider that recovers gets its weight back.

The test drives one process's router. It adjusts the weights as the processes of a channel do
together. For each provider the model keeps the failures since its last success, the end of its
rest, the time of its last probe, and the time its weight last moved. The time is a number that the
test passes in.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comms.platform.settings import RoutingPolicy
from consumers.routing import Choice, Route, Router
from consumers.routing.breaker import PROBE_SECONDS
from consumers.routing.router import Unlimited
from consumers.routing.weights import CallCounts, Share, adjust_share
from consumers.sdk.outcomes import Accepted, Ambiguous, Outcome, Refused, TryLater
from schemas.vocabulary import Reason
from tests.consumers.harness import Named, sms
from tests.properties.effort import effort

POLICY = RoutingPolicy(
    minimum_calls=1,
    step=10,
    step_seconds=10,
    recover_seconds=300,
    floor=5,
    breaker_failures=3,
    breaker_rest_seconds=15,
    breaker_rest_cap_seconds=50,
)
NAMES = ("a", "b", "c")
MESSAGE = sms()
FAILURES: tuple[Outcome, ...] = (
    TryLater(reason=Reason.PROVIDER_ERROR),
    TryLater(reason=Reason.TIMEOUT),
    Ambiguous(),
)
SUCCESSES: tuple[Outcome, ...] = (Accepted(), Refused(reason=Reason.REJECTED))
RATE_LIMITED = TryLater(reason=Reason.RATE_LIMITED, after=1.0)

names = st.sampled_from(NAMES)


@dataclass
class ModelProvider:
    """The model of one provider; a time is None if there is none."""

    configured: int
    failures: int = 0
    rest: float = 0.0
    rests_until: float | None = None
    probe_until: float = 0.0
    is_within_limit: bool = True
    share: Share = field(default_factory=lambda: Share(0, 0.0))

    def can_be_called(self, now: float) -> bool:
        is_resting = self.rests_until is not None and now < self.rests_until
        is_being_probed = self.rests_until is not None and now < self.probe_until
        return self.is_within_limit and not is_resting and not is_being_probed

    def record_failure(self, now: float) -> None:
        """Enough failures in a row open the breaker; a failure after the rest doubles it."""
        self.failures += 1
        if self.rests_until is None:
            if self.failures < POLICY.breaker_failures:
                return
            self.rest = POLICY.breaker_rest_seconds
        elif now >= self.rests_until:
            self.rest = min(2 * self.rest, POLICY.breaker_rest_cap_seconds)
        else:
            return
        self.rests_until, self.probe_until = now + self.rest, 0.0

    def record_success(self) -> None:
        self.failures, self.rests_until, self.probe_until = 0, None, 0.0


class ModelLimits(Unlimited):
    """The rate limits of the model's providers."""

    def __init__(self, providers: Mapping[str, ModelProvider]) -> None:
        self._providers = providers

    def allows(self, provider: str) -> bool:
        return self._providers[provider].is_within_limit


class RoutingMachine(RuleBasedStateMachine):
    """Three providers, calls that end in any way and any order, and time."""

    @initialize(weights=st.tuples(*[st.sampled_from([0, 3, 8, 30, 65, 100])] * len(NAMES)))
    def start(self, weights: tuple[int, ...]) -> None:
        self.models = {name: ModelProvider(w) for name, w in zip(NAMES, weights, strict=True)}
        for model in self.models.values():
            model.share = Share(model.configured, 0.0)
        self.router = Router(
            [Route(Named(name), model.configured) for name, model in self.models.items()],
            POLICY,
            source=random.Random(7),
            limits=ModelLimits(self.models),
        )
        self.now = 0.0
        self.calls: list[str] = []  # that are running, by provider

    @rule(seconds=st.sampled_from([1.0, 9.0, 14.0, 14.0, 15.0, 30.0, 300.0]))
    def advance_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=names)
    def toggle_rate_limit(self, name: str) -> None:
        self.models[name].is_within_limit = not self.models[name].is_within_limit

    @rule(times=st.integers(1, 3))
    def choose(self, times: int) -> None:
        for _ in range(times):
            self._choose()

    def _choose(self) -> None:
        able = {n for n, model in self.models.items() if model.can_be_called(self.now)}
        probes = {n for n in able if self.models[n].rests_until is not None}
        choice = self.router.choose(MESSAGE, self.now)
        if choice is None:
            assert not able
            return
        name = choice.provider.name
        assert name in (probes or able)
        weighted = {n for n in able if self.router.states[n].weight > 0}
        assert probes or name in (weighted or able)
        self._begin_call(choice)

    @rule(name=names)
    def repeat_call_in_doubt(self, name: str) -> None:
        can_be_called = self.models[name].can_be_called(self.now)
        choice = self.router.same_provider(name, self.now)
        assert (choice is not None) == can_be_called
        if choice is not None:
            assert choice.provider.name == name
            self._begin_call(choice)

    def _begin_call(self, choice: Choice) -> None:
        name = choice.provider.name
        model = self.models[name]
        assert choice.weight == self.router.states[name].weight
        if model.rests_until is not None:
            model.probe_until = self.now + PROBE_SECONDS
        self.calls.append(name)

    @precondition(lambda self: bool(self.calls))
    @rule(
        which=st.integers(0, 9),
        outcome=st.sampled_from([*FAILURES, *SUCCESSES, RATE_LIMITED]),
        seconds=st.sampled_from([0.1, 6.0]),
    )
    def end_call(self, which: int, outcome: Outcome, seconds: float) -> None:
        self._end_call(self.calls.pop(which % len(self.calls)), outcome, seconds)

    @rule(name=names, count=st.integers(1, 4), outcome=st.sampled_from(FAILURES))
    def have_outage(self, name: str, count: int, outcome: Outcome) -> None:
        for _ in range(count):
            self._end_call(name, outcome, 0.1)

    def _end_call(self, name: str, outcome: Outcome, seconds: float) -> None:
        self.router.record_outcome(name, outcome, seconds=seconds, now=self.now)
        if outcome in FAILURES:
            self.models[name].record_failure(self.now)
        elif outcome in SUCCESSES:
            self.models[name].record_success()

    @rule()
    def adjust_weights(self) -> None:
        """By the calls since the weights were adjusted last."""
        for name, model in self.models.items():
            counts, before = self.router.states[name].counts, model.share
            moved = self._adjust(name).weight - before.weight
            since = self.now - before.changed_at
            is_bad = counts.calls > 0 and (
                counts.errors >= POLICY.error_rate * counts.calls
                or counts.slow >= POLICY.slow_rate * counts.calls
            )
            pause = POLICY.step_seconds if is_bad else POLICY.recover_seconds
            assert abs(moved) <= POLICY.step
            assert moved == 0 or (moved < 0) == is_bad
            assert moved == 0 or since >= pause

    def _adjust(self, name: str) -> Share:
        state, model = self.router.states[name], self.models[name]
        after = adjust_share(
            model.share, state.counts, configured=model.configured, policy=POLICY, now=self.now
        )
        model.share, state.weight, state.counts = after, after.weight, CallCounts()
        return after

    @rule(name=names)
    def do_well_for_long(self, name: str) -> None:
        """Whatever was before: after a few good periods a provider has its whole weight back."""
        model = self.models[name]
        model.is_within_limit = True
        for _ in range(2 + model.configured // POLICY.step):
            self.now += POLICY.recover_seconds  # longer than any rest, and than a lost probe
            choice = self.router.same_provider(name, self.now)
            assert choice is not None
            self._end_call(name, Accepted(), 0.1)
            self._adjust(name)
        assert self.router.states[name].weight == model.configured
        assert self.router.pause_reason(name) is None

    @invariant()
    def router_agrees_with_model(self) -> None:
        for name, model in self.models.items():
            state = self.router.states[name]
            assert state.breaker.open_until == model.rests_until
            assert min(POLICY.floor, model.configured) <= state.weight <= model.configured
            assert (self.router.pause_reason(name) is None) == (model.rests_until is None)
        do_all_rest = all(model.rests_until is not None for model in self.models.values())
        assert self.router.has_available_provider != do_all_rest


class EvenRandom(random.Random):
    """Goes once through its range in equal parts, from the middle of the first to that of the last.

    In `parts` calls it does exactly what chance does in the long run.
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self._parts = parts
        self._calls = 0

    def random(self) -> float:
        self._calls += 1
        return (self._calls - 0.5) / self._parts


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any))
@effort(100)
def test_each_healthy_provider_gets_its_weight_in_calls(weights: list[int]) -> None:
    routes = [Route(Named(str(n)), weight) for n, weight in enumerate(weights)]
    router = Router(routes, POLICY, source=EvenRandom(sum(weights)))
    choices = [router.choose(MESSAGE, 0.0) for _ in range(sum(weights))]
    counts = Counter(choice.provider.name for choice in choices if choice is not None)
    assert counts == {str(n): weight for n, weight in enumerate(weights) if weight}


TestRoutingMachine = RoutingMachine.TestCase
TestRoutingMachine.settings = effort(150, steps=40)
