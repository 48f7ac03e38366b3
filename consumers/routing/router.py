"""Chooses a provider for each attempt, by weight, among those that can be called now.

The pipeline's selector and claimer ask for a choice before a call, and report its outcome after it.
The router holds one process's view of the channel's providers. `consumers.routing.sharing` updates
that view from what all processes of the channel have seen.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from comms.platform.masking import mask
from comms.platform.settings import RoutingPolicy
from consumers.routing.breaker import Breaker, BreakerState
from consumers.routing.health import mask_response
from consumers.routing.weights import CallCounts
from consumers.sdk.capabilities import Capabilities, explain_no_provider
from consumers.sdk.outcomes import AccountError, Ambiguous, Outcome, TryLater
from consumers.sdk.provider import Provider
from schemas.messages import Message
from schemas.vocabulary import Mode, Reason

# How the problem of a provider that refuses our account begins, here and in the shared state.
_ACCOUNT = "account fault: "
MIN_DEFER_SECONDS = 5.0  # between looks whether a message's providers can be called


@dataclass(frozen=True, slots=True)
class Route:
    """A provider and its share of the traffic as configured.

    Args:
        missing: what it lacks to be called at all (a secret that is not set). Such a provider is
            never chosen.
        capabilities: which messages it accepts.
        type: the type of the provider, as its table names it.
        has_probe: whether a probe proves its account.
        has_idempotency_key: whether it takes idempotency keys. It then recognises a repeated call
            and carries it out once.
    """

    provider: Provider[Message]
    weight: int
    missing: str | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    type: str = ""
    has_probe: bool = True
    has_idempotency_key: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider of an attempt, its weight at that moment, and why it was chosen."""

    provider: Provider[Message]
    weight: int
    why: str


@dataclass(frozen=True, slots=True)
class ProvidersResting:
    """The providers that accept a message all rest for so many seconds, and others do not."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NoProvider:
    """No provider of the channel accepts the message."""

    why: str


class RateLimits(Protocol):
    """The rate limits of a channel's providers."""

    def allows(self, provider: str) -> bool:
        """Whether one more call may be made now."""

    def spend(self, provider: str) -> None:
        """Count a call that is made."""

    def refund(self, provider: str) -> None:
        """Give back a call that was counted and is not made."""


class Unlimited:
    """No limits."""

    def allows(self, provider: str) -> bool:
        """Every call may be made."""
        del provider
        return True

    def spend(self, provider: str) -> None:
        """Nothing is counted."""

    def refund(self, provider: str) -> None:
        """Nothing is counted."""


@dataclass(slots=True)
class RouteState:
    """What the router knows of one provider.

    Args:
        weight: its present share.
        counts: its calls since the processes last synchronized.
        problem: the last error, masked.
    """

    route: Route
    breaker: Breaker
    weight: int
    counts: CallCounts = field(default_factory=CallCounts)
    problem: str | None = None


class Router:
    """One process's view of a channel's providers. Times are seconds since the epoch.

    Args:
        routes: the channel's providers. Those of weight 0 are chosen only if no other can be
            called.
        limits: the providers' rate limits.

    Attributes:
        states: what is known of each provider, by name.
        are_routes_alike: whether all providers accept the same messages.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        policy: RoutingPolicy,
        *,
        source: random.Random,
        limits: RateLimits | None = None,
    ) -> None:
        self.states = {
            route.provider.name: RouteState(route, Breaker(policy), route.weight)
            for route in routes
        }
        self.are_routes_alike = len({route.capabilities for route in routes}) < 2
        self._policy = policy
        self._source = source
        self._limits = limits or Unlimited()

    def choose(self, message: Message, now: float) -> Choice | None:
        """Choose the provider of a message's next attempt; None if none can be called now."""
        able = [s for s in self._accepting(message) if self._can_be_called(s, now)]
        if message.mode is Mode.TEST:  # a probe with a test message would show nothing
            able = [s for s in able if s.breaker.open_until is None]
        if not able:
            return None
        probes = [s for s in able if s.breaker.state(now) is BreakerState.PROBING]
        if probes:
            return self._choose(probes[0], "as a probe: does it work again?", now)
        total = sum(s.weight for s in able)
        if total == 0:
            is_live = message.mode is Mode.LIVE
            why = "as no other can be called" if is_live else f"for a {message.mode} message"
            return self._choose(self._source.choice(able), why, now)
        chosen = self._choose_by_weight(able)
        return self._choose(chosen, self._explain(total, now), now)

    def find_obstacle(self, message: Message, now: float) -> ProvidersResting | NoProvider | None:
        """Find out why no provider was chosen for a message.

        Returns:
            None if the message has to wait: as all messages of its mode do, or for a provider
            whose rate is limited.
        """
        accepting = self._accepting(message)
        if not accepting:
            return NoProvider(explain_no_provider(message))
        rests = [self._rest_seconds(state, now) for state in accepting]
        of_same_mode = [
            s for s in self.states.values() if message.mode in s.route.capabilities.modes
        ]
        others_work = any(self._rest_seconds(state, now) is None for state in of_same_mode)
        if not others_work or any(rest is None for rest in rests):
            return None
        shortest = min(rest for rest in rests if rest is not None)
        return ProvidersResting(max(MIN_DEFER_SECONDS, shortest))

    def same_provider(self, name: str, now: float) -> Choice | None:
        """Choose a provider again, for a call whose answer was lost.

        Returns:
            None while it cannot be called.

        Raises:
            KeyError: it is not configured any more.
        """
        state = self.states[name]
        if not self._can_be_called(state, now):
            return None
        return self._choose(state, "as before: its answer was lost", now)

    def alternative_to(self, message: Message, name: str, now: float) -> Choice | None:
        """Choose another provider than the one that failed; None if no other works.

        A provider of weight 0 is not chosen.
        """
        others = [s for s in self._accepting(message) if s.route.provider.name != name and s.weight]
        able = [
            s
            for s in others
            if s.breaker.state(now) is BreakerState.CLOSED and self._can_be_called(s, now)
        ]
        if not able:
            return None
        return self._choose(self._choose_by_weight(able), f"instead of {name}", now)

    def has_idempotency_key(self, name: str) -> bool:
        """Whether a provider recognises a repeated call, and carries it out once.

        False for a provider that is not configured any more.
        """
        state = self.states.get(name)
        return state is not None and state.route.has_idempotency_key

    def release(self, choice: Choice) -> None:
        """Give back a choice whose call is not made: another call may be, also as a probe."""
        name = choice.provider.name
        if name in self.states:
            self.states[name].breaker.cancel_start()
            self._limits.refund(name)

    def record_outcome(self, name: str, outcome: Outcome, *, seconds: float, now: float) -> None:
        """Record a call that ended after so many seconds."""
        state = self.states[name]
        is_error = isinstance(outcome, Ambiguous | AccountError) or (
            isinstance(outcome, TryLater) and outcome.reason is not Reason.RATE_LIMITED
        )
        is_slow = seconds > self._policy.slow_seconds
        state.counts = state.counts.with_call(is_error=is_error, is_slow=is_slow)
        if is_error:
            state.problem = mask(outcome.response.detail or outcome.response.code or "no answer")
        if isinstance(outcome, AccountError):
            state.problem = f"{_ACCOUNT}{mask_response(outcome.response)}"
            state.breaker.record_account_error(now)
        elif is_error:
            state.breaker.record_failure(now)
        elif not isinstance(outcome, TryLater):  # a rate limit shows neither success nor failure
            state.breaker.record_success()

    def pause_reason(self, name: str) -> str | None:
        """Why a provider is not called for now; None if it is."""
        state = self.states[name]
        if state.breaker.open_until is None:
            return None
        return f"paused after failures in a row; the last: {state.problem or 'in another process'}"

    def setup_problem(self, name: str) -> str | None:
        """What a person has to repair before a provider can be used; None if nothing."""
        state = self.states[name]
        if state.route.missing is not None:
            return state.route.missing
        is_open, problem = state.breaker.open_until is not None, state.problem or ""
        return problem if is_open and problem.startswith(_ACCOUNT) else None

    @property
    def has_available_provider(self) -> bool:
        """Whether a provider can be called that does not rest, those for tests not counted."""
        states = list(self.states.values())
        live = [s for s in states if Mode.LIVE in s.route.capabilities.modes] or states
        return any(s.breaker.open_until is None and s.route.missing is None for s in live)

    def can_probe(self, now: float) -> bool:
        """Whether a provider's rest is over, so that one call may find out how it is."""
        return any(
            s.breaker.state(now) is BreakerState.PROBING and s.breaker.allows(now)
            for s in self.states.values()
            if s.route.missing is None
        )

    def _accepting(self, message: Message) -> list[RouteState]:
        """Return the providers that accept a message."""
        states = list(self.states.values())
        if self.are_routes_alike and states and states[0].route.capabilities.accepts(message):
            return states
        return [s for s in states if s.route.capabilities.accepts(message)]

    def _rest_seconds(self, state: RouteState, now: float) -> float | None:
        """Return the seconds for which a provider rests; None if it does not."""
        if state.route.missing is not None:
            return self._policy.account_rest_seconds
        until = state.breaker.open_until
        return None if until is None else max(0.0, until - now)

    def _can_be_called(self, state: RouteState, now: float) -> bool:
        if state.route.missing is not None or not state.breaker.allows(now):
            return False
        return self._limits.allows(state.route.provider.name)

    def _choose_by_weight(self, states: Sequence[RouteState]) -> RouteState:
        return self._source.choices(states, [s.weight for s in states])[0]

    def _choose(self, state: RouteState, why: str, now: float) -> Choice:
        state.breaker.record_start(now)
        self._limits.spend(state.route.provider.name)
        return Choice(state.route.provider, state.weight, f"weight {state.weight} {why}")

    def _explain(self, total: int, now: float) -> str:
        """Say among which weight the choice was made, and which providers are paused."""
        paused = [
            name
            for name, state in self.states.items()
            if state.breaker.state(now) is not BreakerState.CLOSED
        ]
        share = f"of {total}"
        return f"{share}; paused: {', '.join(paused)}" if paused else share
