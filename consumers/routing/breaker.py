"""The circuit breaker of one provider: a dead one is left alone and tried again now and then.

Pure: the router tells it what happened and what time it is. Closed, it lets everything through.
After so many failures with no success between it opens, and rests. When the rest is over one call
is let through as a probe; its success closes the breaker, its failure doubles the rest. A provider
that refuses the account is left alone at once, and for longer: waiting alone does not mend that.
"""

from dataclasses import dataclass
from enum import StrEnum

from comms.platform.settings import RoutingPolicy

PROBE_SECONDS = 30.0  # a probe not heard of by then is given up


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(slots=True)
class Breaker:
    """One provider's. Times are seconds since the epoch.

    Args:
        open_until: end of the rest; None while closed.
        rest: seconds of the present rest.
        changed: opened or closed here since the processes last compared notes.
    """

    policy: RoutingPolicy
    failures: int = 0
    open_until: float | None = None
    rest: float = 0.0
    probe_until: float = 0.0
    changed: bool = False

    def state(self, now: float) -> State:
        """Where it stands now."""
        if self.open_until is None:
            return State.CLOSED
        return State.PROBING if now >= self.open_until else State.OPEN

    def allows(self, now: float) -> bool:
        """Whether a call may be made now."""
        match self.state(now):
            case State.CLOSED:
                return True
            case State.PROBING:
                return now >= self.probe_until
            case State.OPEN:
                return False

    def begin(self, now: float) -> None:
        """A call that was allowed is about to be made."""
        if self.open_until is not None:
            self.probe_until = now + PROBE_SECONDS

    def not_begun(self) -> None:
        """The call that was to be the probe is not made."""
        self.probe_until = 0.0

    def succeeded(self) -> None:
        """A call was answered as a provider that works answers."""
        self.failures = 0
        if self.open_until is not None:
            self.close()
            self.changed = True

    def failed(self, now: float) -> None:
        """A call came to nothing for a reason that lies with the provider."""
        self.failures += 1
        match self.state(now):
            case State.CLOSED if self.failures >= self.policy.breaker_failures:
                self._open(now, self.policy.breaker_rest_seconds)
            case State.PROBING:
                self._open(now, min(2 * self.rest, self.policy.breaker_rest_cap_seconds))
            case _:  # a call that began before it opened
                pass

    def blocked(self, now: float) -> None:
        """The provider refused the account: no other call would fare better."""
        self.failures += 1
        rest = self.policy.account_rest_seconds
        if self.state(now) is not State.OPEN or self.rest < rest:
            self._open(now, rest)

    def close(self) -> None:
        """Let everything through again."""
        self.failures, self.open_until, self.rest, self.probe_until = 0, None, 0.0, 0.0

    def adopt(self, open_until: float | None, rest: float) -> bool:
        """Another process of the channel may know better; whether it opened what was closed here,
        or keeps it open for longer."""
        if open_until is None:
            if self.open_until is not None:
                self.close()
            return False
        if self.open_until is not None and open_until <= self.open_until:
            return False
        self.open_until, self.rest = open_until, rest
        return True

    def _open(self, now: float, rest: float) -> None:
        self.rest, self.open_until, self.probe_until = rest, now + rest, 0.0
        self.changed = True
