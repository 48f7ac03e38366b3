"""Selects a provider for each message that could begin.

The claim loop passes the messages before it claims them. A message waits, unclaimed, if no provider
of its channel can be called now; that costs it no attempt. If other providers of the channel work,
as with push messages for several platforms, the message is deferred, so that it does not hold up
theirs. A message goes on with `NO_PROVIDER` if no provider takes it, or if it expired while its
providers rested: it is claimed and ended, and no provider is called.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from comms.platform.clock import Clock
from comms.platform.settings import RetryPolicy
from consumers.ledger.delivery import Delivery
from consumers.pipeline import retry
from consumers.pipeline.claiming import Candidate
from consumers.routing import Choice, NoProvider, ProvidersResting, Router
from consumers.sdk.unconfigured import UnconfiguredProvider

NO_PROVIDER = "none"  # stands in the ledger and in events in place of a provider's name


@dataclass(slots=True)
class Selection:
    """What happens next to the messages of a batch.

    Args:
        candidates: messages to claim, each with its provider.
        waiting: messages that wait until a provider can be called.
        deferrals: messages to defer, each with the seconds to wait.
        keeps_order: the messages that wait are next again; else others come first.
    """

    keeps_order: bool
    candidates: list[Candidate] = field(default_factory=list)
    waiting: list[Delivery] = field(default_factory=list)
    deferrals: list[tuple[Delivery, float]] = field(default_factory=list)


class Selector:
    """Selects for one channel process."""

    def __init__(self, router: Router, policy: RetryPolicy, clock: Clock) -> None:
        self._router = router
        self._policy = policy
        self._clock = clock

    def select(self, heads: Sequence[Delivery]) -> Selection:
        """Select a provider for each message, or let it wait, or defer it."""
        selection = Selection(keeps_order=self._router.are_routes_alike)
        for n, head in enumerate(heads):
            choice = self._router.choose(head.message, self._clock().timestamp())
            if choice is not None:
                selection.candidates.append((head, choice))
            elif self._is_handled_otherwise(head, selection):
                continue
            elif self._router.are_routes_alike:  # no provider can be called for the others either
                selection.waiting.extend(heads[n:])
                break
            else:
                selection.waiting.append(head)
        return selection

    def _is_handled_otherwise(self, head: Delivery, selection: Selection) -> bool:
        """Defer a message or end it, where waiting is not the answer; whether that was done."""
        now = self._clock()
        match self._router.find_obstacle(head.message, now.timestamp()):
            case None:
                return False
            case NoProvider(why=why):
                selection.candidates.append((head, _choose_no_provider(why)))
            case ProvidersResting() if retry.has_ended(self._policy, head.message, now=now):
                selection.candidates.append((head, _choose_no_provider("its providers are paused")))
            case ProvidersResting(seconds=seconds):
                selection.deferrals.append((head, seconds))
        return True


def is_no_provider(choice: Choice) -> bool:
    """Whether the choice is that no provider is called."""
    return choice.provider.name == NO_PROVIDER


def _choose_no_provider(why: str) -> Choice:
    return Choice(UnconfiguredProvider(NO_PROVIDER), 0, why)
