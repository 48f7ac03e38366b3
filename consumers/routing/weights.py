"""How a provider's share moves: away from it in steps while it does badly, back in steps after.

Pure, and run by one process of a channel at a time for all of them. What is judged are the calls of
slots of time that are over, so that a slow minute is not taken for a quiet one. The steps are those
that a public notification service published of itself: ten points away for more errors or slow
answers than is normal, ten points back for every five good minutes.
"""

from dataclasses import dataclass, replace

from comms.platform.settings import RoutingPolicy


@dataclass(frozen=True, slots=True)
class Window:
    """Calls that ended lately."""

    calls: int = 0
    errors: int = 0
    slow: int = 0

    def with_call(self, *, error: bool, slow: bool) -> "Window":
        """One more."""
        return Window(self.calls + 1, self.errors + error, self.slow + slow)


@dataclass(frozen=True, slots=True)
class Share:
    """A provider's present weight, and when it last changed (seconds since the epoch)."""

    weight: int
    changed_at: float


def judge(
    share: Share,
    window: Window,
    *,
    configured: int,
    policy: RoutingPolicy,
    now: float,
    left_alone: bool = False,
) -> Share:
    """The share that follows from how the provider did.

    Args:
        configured: the weight in the settings, which is never exceeded; one of 0 stays 0.
        left_alone: its breaker is open. It comes back with the least share, and by steps.
    """
    since = now - share.changed_at
    weight = min(share.weight, configured)
    floor = min(policy.floor, configured)
    if left_alone:
        return Share(floor, now)
    if _does_badly(window, policy):
        if since >= policy.step_seconds:
            weight = max(floor, weight - policy.step)
        changed_at = now if weight != share.weight or weight == floor else share.changed_at
        return Share(weight, changed_at)  # the good minutes are counted from the last bad one
    if weight < configured and since >= policy.recover_seconds:
        weight = min(configured, weight + policy.step)
    weight = max(floor, weight)
    return share if weight == share.weight else replace(share, weight=weight, changed_at=now)


def _does_badly(window: Window, policy: RoutingPolicy) -> bool:
    if window.calls < policy.minimum_calls:
        return False
    bad = window.errors >= policy.error_rate * window.calls
    return bad or window.slow >= policy.slow_rate * window.calls
