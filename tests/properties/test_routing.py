"""Who may be called is called, who rests is left alone, and whoever recovers gets everything back.

One process's router, with its weights assess as the processes of a channel adjust_share them
together. The model knows of each provider the failures since its last success, until when it rests,
when a probe was last sent, and when its weight last moved. The time is a number that is passed in.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comms.platform.settings import RoutingPolicy
from consumers.routing import Choice, Route, Router
from consumers.routing.breaker import PROBE_SECONDS
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
ANSWERS: tuple[Outcome, ...] = (Accepted(), Refused(reason=Reason.REJECTED))
WAIT = TryLater(reason=Reason.RATE_LIMITED, after=1.0)

names = st.sampled_from(NAMES)


@dataclass
class Known:
    """What the model knows of a provider; times are None where there is none."""

    configured: int
    failures: int = 0
    rest: float = 0.0
    rests_until: float | None = None
    probe_until: float = 0.0
    may_be_called: bool = True  # by its rate limit
    share: Share = field(default_factory=lambda: Share(0, 0.0))

    def can_be_called(self, now: float) -> bool:
        rests = self.rests_until is not None and now < self.rests_until
        waits_for_its_probe = self.rests_until is not None and now < self.probe_until
        return self.may_be_called and not rests and not waits_for_its_probe

    def fails(self, now: float) -> None:
        """Enough in a row open the breaker; whatever fails after the rest doubles it."""
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

    def answers(self) -> None:
        self.failures, self.rests_until, self.probe_until = 0, None, 0.0


class ModelRateLimits:
    """Rate limits as the model has them: a provider may be called or not."""

    def __init__(self, known: dict[str, Known]) -> None:
        self._known = known

    def allows(self, provider: str) -> bool:
        return self._known[provider].may_be_called

    def spend(self, provider: str) -> None:
        """The model does not count calls."""

    def refund(self, provider: str) -> None:
        """The model does not count calls."""


class ProvidersComeAndGo(RuleBasedStateMachine):
    """Three providers, calls that end in any way and any order, and time."""

    @initialize(weights=st.tuples(*[st.sampled_from([0, 3, 8, 30, 65, 100])] * len(NAMES)))
    def begin(self, weights: tuple[int, ...]) -> None:
        self.known = {name: Known(w) for name, w in zip(NAMES, weights, strict=True)}
        for known in self.known.values():
            known.share = Share(known.configured, 0.0)
        self.router = Router(
            [Route(Named(name), known.configured) for name, known in self.known.items()],
            POLICY,
            source=random.Random(7),
            limits=ModelRateLimits(self.known),
        )
        self.now = 0.0
        self.calls: list[str] = []  # being made, by provider

    @rule(seconds=st.sampled_from([1.0, 9.0, 14.0, 14.0, 15.0, 30.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=names)
    def its_rate_limit_is_used_up_or_leaves_room_again(self, name: str) -> None:
        self.known[name].may_be_called = not self.known[name].may_be_called

    @rule(times=st.integers(1, 3))
    def chooses(self, times: int) -> None:
        for _ in range(times):
            self._chooses()

    def _chooses(self) -> None:
        able = {n for n, known in self.known.items() if known.can_be_called(self.now)}
        probes = {n for n in able if self.known[n].rests_until is not None}
        choice = self.router.choose(MESSAGE, self.now)
        if choice is None:
            assert not able
            return
        name = choice.provider.name
        assert name in (probes or able)
        weighted = {n for n in able if self.router.states[n].weight > 0}
        assert probes or name in (weighted or able)
        self._call_begins(choice)

    @rule(name=names)
    def repeats_a_call_in_doubt(self, name: str) -> None:
        able = self.known[name].can_be_called(self.now)
        choice = self.router.same_provider(name, self.now)
        assert (choice is not None) == able
        if choice is not None:
            assert choice.provider.name == name
            self._call_begins(choice)

    def _call_begins(self, choice: Choice) -> None:
        name = choice.provider.name
        known = self.known[name]
        assert choice.weight == self.router.states[name].weight
        if known.rests_until is not None:
            known.probe_until = self.now + PROBE_SECONDS
        self.calls.append(name)

    @precondition(lambda self: bool(self.calls))
    @rule(
        which=st.integers(0, 9),
        outcome=st.sampled_from([*FAILURES, *ANSWERS, WAIT]),
        seconds=st.sampled_from([0.1, 6.0]),
    )
    def a_call_ends(self, which: int, outcome: Outcome, seconds: float) -> None:
        self._ends(self.calls.pop(which % len(self.calls)), outcome, seconds)

    @rule(name=names, count=st.integers(1, 4), outcome=st.sampled_from(FAILURES))
    def an_outage(self, name: str, count: int, outcome: Outcome) -> None:
        for _ in range(count):
            self._ends(name, outcome, 0.1)

    def _ends(self, name: str, outcome: Outcome, seconds: float) -> None:
        self.router.record_outcome(name, outcome, seconds=seconds, now=self.now)
        if outcome in FAILURES:
            self.known[name].fails(self.now)
        elif outcome in ANSWERS:
            self.known[name].answers()

    @rule()
    def are_judged(self) -> None:
        """By their calls since they were judged last."""
        for name, known in self.known.items():
            window, before = self.router.states[name].counts, known.share
            moved = self._judge(name).weight - before.weight
            since = self.now - before.changed_at
            is_bad = window.calls > 0 and (
                window.errors >= POLICY.error_rate * window.calls
                or window.slow >= POLICY.slow_rate * window.calls
            )
            pause = POLICY.step_seconds if is_bad else POLICY.recover_seconds
            assert abs(moved) <= POLICY.step
            assert moved == 0 or (moved < 0) == is_bad
            assert moved == 0 or since >= pause

    def _judge(self, name: str) -> Share:
        standing, known = self.router.states[name], self.known[name]
        after = adjust_share(
            known.share, standing.counts, configured=known.configured, policy=POLICY, now=self.now
        )
        known.share, standing.weight, standing.counts = after, after.weight, CallCounts()
        return after

    @rule(name=names)
    def does_well_for_long(self, name: str) -> None:
        """Whatever was before: a few good periods, and it has its whole weight back."""
        known = self.known[name]
        known.may_be_called = True
        for _ in range(2 + known.configured // POLICY.step):
            self.now += POLICY.recover_seconds  # longer than any rest, and than a lost probe
            choice = self.router.same_provider(name, self.now)
            assert choice is not None
            self._ends(name, Accepted(), 0.1)
            self._judge(name)
        assert self.router.states[name].weight == known.configured
        assert self.router.pause_reason(name) is None

    @invariant()
    def agree(self) -> None:
        for name, known in self.known.items():
            standing = self.router.states[name]
            assert standing.breaker.open_until == known.rests_until
            assert min(POLICY.floor, known.configured) <= standing.weight <= known.configured
            assert (self.router.pause_reason(name) is None) == (known.rests_until is None)
        every_one_rests = all(known.rests_until is not None for known in self.known.values())
        assert self.router.has_available_provider != every_one_rests


class Evenly(random.Random):
    """Goes once through its range in equal parts, from the middle of the first to that of the last:
    what chance does in the long run, it does exactly in `parts` calls."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self._parts, self._calls = parts, 0

    def random(self) -> float:
        self._calls += 1
        return (self._calls - 0.5) / self._parts


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any))
@effort(100)
def test_of_healthy_providers_each_gets_its_weight_in_calls(weights: list[int]) -> None:
    routes = [Route(Named(str(n)), weight) for n, weight in enumerate(weights)]
    router = Router(routes, POLICY, source=Evenly(sum(weights)))
    choices = [router.choose(MESSAGE, 0.0) for _ in range(sum(weights))]
    counts = Counter(choice.provider.name for choice in choices if choice is not None)
    assert counts == {str(n): weight for n, weight in enumerate(weights) if weight}


TestProvidersComeAndGo = ProvidersComeAndGo.TestCase
TestProvidersComeAndGo.settings = effort(150, steps=40)
