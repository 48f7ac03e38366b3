"""The circuit breaker of one provider: while it is open the provider is not called, but for probes.

It is pure: the router reports what happened and what time it is. A closed breaker lets all calls
through. After so many failures with no success between them it opens, and the provider rests. When
the rest is over, one call is let through as a probe. Its success closes the breaker, and its
failure doubles the rest. The breaker of a provider that refuses our account opens at once and for
longer, because waiting alone does not repair an account.
"""

from dataclasses import dataclass
from enum import StrEnum

from comms.platform.settings import RoutingPolicy

PROBE_SECONDS = 30.0  # a probe that has no outcome by then is given up


class BreakerState(StrEnum):
    """The states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(slots=True)
class Breaker:
    """The breaker of one provider. Times are seconds since the epoch.

    Args:
        failures: in a row.
        open_until: the end of the rest; None while it is closed.
        rest: the length of the present rest in seconds.
        probe_until: when the running probe is given up.
        is_unshared: it opened or closed here since the processes last synchronized.
    """

    policy: RoutingPolicy
    failures: int = 0
    open_until: float | None = None
    rest: float = 0.0
    probe_until: float = 0.0
    is_unshared: bool = False

    def state(self, now: float) -> BreakerState:
        """Its state now."""
        if self.open_until is None:
            return BreakerState.CLOSED
        return BreakerState.PROBING if now >= self.open_until else BreakerState.OPEN

    def allows(self, now: float) -> bool:
        """Whether a call may be made now."""
        match self.state(now):
            case BreakerState.CLOSED:
                return True
            case BreakerState.PROBING:
                return now >= self.probe_until
            case BreakerState.OPEN:
                return False

    def record_start(self, now: float) -> None:
        """Record that a call that was allowed is about to be made."""
        if self.open_until is not None:
            self.probe_until = now + PROBE_SECONDS

    def cancel_start(self) -> None:
        """Record that the call is not made, so that another may be the probe."""
        self.probe_until = 0.0

    def record_success(self) -> None:
        """Record a call that was answered as by a provider that works."""
        self.failures = 0
        if self.open_until is not None:
            self.close()
            self.is_unshared = True

    def record_failure(self, now: float) -> None:
        """Record a call that failed because of the provider."""
        self.failures += 1
        match self.state(now):
            case BreakerState.CLOSED if self.failures >= self.policy.breaker_failures:
                self._open(now, self.policy.breaker_rest_seconds)
            case BreakerState.PROBING:
                self._open(now, min(2 * self.rest, self.policy.breaker_rest_cap_seconds))
            case _:  # the call began before the breaker opened
                pass

    def record_account_error(self, now: float) -> None:
        """Record a call whose account the provider refused: every other call would fail too."""
        self.failures += 1
        rest = self.policy.account_rest_seconds
        if self.state(now) is not BreakerState.OPEN or self.rest < rest:
            self._open(now, rest)

    def close(self) -> None:
        """Let all calls through again."""
        self.failures = 0
        self.open_until = None
        self.rest = 0.0
        self.probe_until = 0.0

    def merge_shared(self, open_until: float | None, rest: float) -> bool:
        """Take over the state that the processes of the channel share.

        Returns:
            Whether that opened a breaker that was closed here, or keeps it open for longer.
        """
        if open_until is None:
            if self.open_until is not None:
                self.close()
            return False
        if self.open_until is not None and open_until <= self.open_until:
            return False
        self.open_until = open_until
        self.rest = rest
        return True

    def _open(self, now: float, rest: float) -> None:
        self.rest = rest
        self.open_until = now + rest
        self.probe_until = 0.0
        self.is_unshared = True
