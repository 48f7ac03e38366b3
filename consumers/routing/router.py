"""Chooses a provider for each attempt, by weight, among those that take its message and can be
called now."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from comms.platform.masking import masked
from comms.platform.settings import RoutingPolicy
from consumers.routing.breaker import Breaker, State
from consumers.routing.health import without_recipients
from consumers.routing.weights import Window
from consumers.sdk.capabilities import Capabilities, explain_no_provider
from consumers.sdk.outcomes import AccountError, Ambiguous, Outcome, TryLater
from consumers.sdk.provider import Provider
from schemas.messages import Message
from schemas.vocabulary import Mode, Reason

# How the problem of a provider that refuses the account begins, here and in what processes share.
_ACCOUNT = "account fault: "
LEAST_ASIDE = 5.0  # seconds until it is seen again whether a message's providers can be called


@dataclass(frozen=True, slots=True)
class Route:
    """A provider and its share of the traffic as configured.

    Args:
        missing: what it lacks to be called at all (a secret that is not set); it is never chosen.
        takes: which messages it may be given.
        kind: of the provider, as its table names it; probes: whether a probe proves its account.
        knows_repeats: a call that is made twice is carried out once there.
    """

    provider: Provider[Message]
    weight: int
    missing: str | None = None
    takes: Capabilities = field(default_factory=Capabilities)
    kind: str = ""
    probes: bool = True
    knows_repeats: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider of an attempt, its weight at that moment, and why it was taken."""

    provider: Provider[Message]
    weight: int
    why: str


@dataclass(frozen=True, slots=True)
class Aside:
    """The providers that take a message are left alone for so many seconds, and others are not."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NoWay:
    """No provider of the channel takes the message."""

    why: str


@dataclass(slots=True)
class RouteState:
    """What the router knows of one provider.

    Args:
        weight: its present share; seen: calls since the processes last compared notes.
    """

    route: Route
    breaker: Breaker
    weight: int
    seen: Window = field(default_factory=Window)
    problem: str | None = None


class Router:
    """One process's view of a channel's providers. Times are seconds since the epoch.

    Args:
        routes: the channel's providers; of weight 0 are those for when no other can be called.
        has_allowance: whether a provider's rate limit permits a call now; spend: one is made;
            refund: it was not made after all.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        policy: RoutingPolicy,
        *,
        source: random.Random,
        has_allowance: Callable[[str], bool] = lambda _: True,
        spend: Callable[[str], None] = lambda _: None,
        refund: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.standings = {
            route.provider.name: RouteState(route, Breaker(policy), route.weight)
            for route in routes
        }
        self._policy, self._source = policy, source
        self._has_allowance, self._spend, self._refund = has_allowance, spend, refund
        self.are_alike = len({route.takes for route in routes}) < 2

    def choose(self, message: Message, now: float) -> Choice | None:
        """The provider of the message's next attempt; None when none can be called now."""
        able = [s for s in self._takers(message) if self._can_be_called(s, now)]
        if message.mode is Mode.TEST:  # no probe: it would tell nothing
            able = [s for s in able if s.breaker.open_until is None]
        if not able:
            return None
        probes = [s for s in able if s.breaker.state(now) is State.PROBING]
        if probes:
            return self._take(probes[0], "as a probe: does it work again?", now)
        total = sum(s.weight for s in able)
        if total == 0:
            live = message.mode is Mode.LIVE
            why = "as no other can be called" if live else f"for a {message.mode} message"
            return self._take(self._source.choice(able), why, now)
        chosen = self._source.choices(able, [s.weight for s in able])[0]
        return self._take(chosen, self._why(chosen, total, now), now)

    def held_up(self, message: Message, now: float) -> Aside | NoWay | None:
        """Why nobody is chosen for a message: None where it has to wait as all that are meant as
        it is have to, or for its turn with a provider whose rate is limited."""
        takers = self._takers(message)
        if not takers:
            return NoWay(explain_no_provider(message))
        rests = [self._rest(standing, now) for standing in takers]
        alike = [s for s in self.standings.values() if message.mode in s.route.takes.modes]
        others_work = any(self._rest(standing, now) is None for standing in alike)
        if not others_work or any(rest is None for rest in rests):
            return None
        return Aside(max(LEAST_ASIDE, min(rest for rest in rests if rest is not None)))

    def same_provider(self, name: str, now: float) -> Choice | None:
        """The same provider, for a call whose answer was lost; None while it cannot be called.

        Raises:
            KeyError: it is no longer configured.
        """
        standing = self.standings[name]
        if not self._can_be_called(standing, now):
            return None
        return self._take(standing, "as before: its answer was lost", now)

    def alternative_to(self, message: Message, name: str, now: float) -> Choice | None:
        """Another provider than the one that failed a message; None where there is none that works
        and has a weight."""
        others = [s for s in self._takers(message) if s.route.provider.name != name and s.weight]
        works = [s for s in others if s.breaker.state(now) is State.CLOSED]
        able = [s for s in works if self._can_be_called(s, now)]
        if not able:
            return None
        chosen = self._source.choices(able, [s.weight for s in able])[0]
        return self._take(chosen, f"instead of {name}", now)

    def knows_repeats(self, name: str) -> bool:
        """Whether a call that was made through this provider may be made through it again, and is
        carried out once; not so where it is configured no more."""
        standing = self.standings.get(name)
        return standing is not None and standing.route.knows_repeats

    def give_back(self, choice: Choice) -> None:
        """The call that was chosen for is not made: another one may be, also as a probe."""
        name = choice.provider.name
        if name in self.standings:
            self.standings[name].breaker.not_begun()
            self._refund(name)

    def observe(self, name: str, outcome: Outcome, *, seconds: float, now: float) -> None:
        """A call ended, after so many seconds."""
        standing = self.standings[name]
        is_error = isinstance(outcome, Ambiguous | AccountError) or (
            isinstance(outcome, TryLater) and outcome.reason is not Reason.RATE_LIMITED
        )
        slow = seconds > self._policy.slow_seconds
        standing.seen = standing.seen.with_call(error=is_error, slow=slow)
        if is_error:
            standing.problem = masked(
                outcome.response.detail or outcome.response.code or "no answer"
            )
        if isinstance(outcome, AccountError):
            standing.problem = f"{_ACCOUNT}{without_recipients(outcome.response)}"
            standing.breaker.blocked(now)
        elif is_error:
            standing.breaker.failed(now)
        elif not isinstance(outcome, TryLater):  # being asked to wait says nothing either way
            standing.breaker.succeeded()

    def resting(self, name: str) -> str | None:
        """Why a provider is left alone; None if it is not."""
        standing = self.standings[name]
        if standing.breaker.open_until is None:
            return None
        return f"left alone after failures in a row; the last: {standing.problem or 'elsewhere'}"

    def needs_setup(self, name: str) -> str | None:
        """What a person has to put right before a provider can be used; None if nothing."""
        standing = self.standings[name]
        if standing.route.missing is not None:
            return standing.route.missing
        is_open, problem = standing.breaker.open_until is not None, standing.problem or ""
        return problem if is_open and problem.startswith(_ACCOUNT) else None

    @property
    def is_waiting(self) -> bool:
        """Whether every provider is left alone, those for tests apart."""
        everybody = list(self.standings.values())
        meant = [s for s in everybody if Mode.LIVE in s.route.takes.modes] or everybody
        return all(s.breaker.open_until is not None or s.route.missing is not None for s in meant)

    def may_probe(self, now: float) -> bool:
        """Whether a provider's rest is over, so that one call may find out how it is."""
        able = [s for s in self.standings.values() if s.route.missing is None]
        return any(s.breaker.state(now) is State.PROBING and s.breaker.allows(now) for s in able)

    def _takers(self, message: Message) -> list[RouteState]:
        standings = list(self.standings.values())
        if self.are_alike and standings and standings[0].route.takes.accepts(message):
            return standings
        return [s for s in standings if s.route.takes.accepts(message)]

    def _rest(self, standing: RouteState, now: float) -> float | None:
        """Seconds for which a provider is left alone; None while it is not."""
        if standing.route.missing is not None:
            return self._policy.account_rest_seconds
        until = standing.breaker.open_until
        return None if until is None else max(0.0, until - now)

    def _can_be_called(self, standing: RouteState, now: float) -> bool:
        if standing.route.missing is not None or not standing.breaker.allows(now):
            return False
        return self._has_allowance(standing.route.provider.name)

    def _take(self, standing: RouteState, why: str, now: float) -> Choice:
        standing.breaker.begin(now)
        self._spend(standing.route.provider.name)
        return Choice(standing.route.provider, standing.weight, f"weight {standing.weight} {why}")

    def _why(self, chosen: RouteState, total: int, now: float) -> str:
        away = [n for n, s in self.standings.items() if s.breaker.state(now) is not State.CLOSED]
        left = f"of {total}"
        return f"{left}; left alone: {', '.join(away)}" if away else left
