"""Moves a provider's weight: away from it in steps while it does badly, back in steps afterwards.

It is pure. One process of a channel at a time runs it, for all of them. It judges the calls of time
slots that are over, so that a slow minute is not mistaken for a quiet one. The steps are those that
a public notification service published about itself: ten points away for more errors or slow
answers than is normal, ten points back for every five good minutes.
"""

from dataclasses import dataclass, replace

from comms.platform.settings import RoutingPolicy


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Counts of calls that ended within some time."""

    calls: int = 0
    errors: int = 0
    slow: int = 0

    def with_call(self, *, is_error: bool, is_slow: bool) -> "CallCounts":
        """Return the counts with one more call."""
        return CallCounts(self.calls + 1, self.errors + is_error, self.slow + is_slow)

    def minus(self, other: "CallCounts") -> "CallCounts":
        """Return the counts without those that were counted before."""
        return CallCounts(
            self.calls - other.calls, self.errors - other.errors, self.slow - other.slow
        )


@dataclass(frozen=True, slots=True)
class Share:
    """A provider's present weight, and when it last changed (seconds since the epoch)."""

    weight: int
    changed_at: float


def adjust_share(
    share: Share,
    counts: CallCounts,
    *,
    configured: int,
    policy: RoutingPolicy,
    now: float,
    is_open: bool = False,
) -> Share:
    """Return the share that follows from how the provider did.

    Args:
        configured: the weight in the settings, which is never exceeded. A weight of 0 stays 0.
        is_open: its breaker is open. It comes back with the smallest share, and by steps.
    """
    since = now - share.changed_at
    weight = min(share.weight, configured)
    floor = min(policy.floor, configured)
    if is_open:
        return Share(floor, now)
    if _does_badly(counts, policy):
        if since >= policy.step_seconds:
            weight = max(floor, weight - policy.step)
        changed_at = now if weight != share.weight or weight == floor else share.changed_at
        return Share(weight, changed_at)  # good minutes are counted from the last bad one
    if weight < configured and since >= policy.recover_seconds:
        weight = min(configured, weight + policy.step)
    weight = max(floor, weight)
    return share if weight == share.weight else replace(share, weight=weight, changed_at=now)


def _does_badly(counts: CallCounts, policy: RoutingPolicy) -> bool:
    if counts.calls < policy.minimum_calls:
        return False
    has_errors = counts.errors >= policy.error_rate * counts.calls
    return has_errors or counts.slow >= policy.slow_rate * counts.calls
