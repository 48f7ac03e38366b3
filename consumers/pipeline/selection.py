"""Sorts messages that could begin: by whom each is called, which wait, which step aside.

The dispatcher hands over the heads of its lanes before it claims them. A message that nobody can be
called for now waits with its channel, unclaimed, which costs it no attempt. Where other providers
of the channel work on, as with notifications to several platforms, it steps aside in their favour.
One that no provider takes, or whose time ran out while its providers were left alone, goes on with
`NOBODY` for a provider: it is claimed and ended, and nobody is called.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from comms.platform.clock import Clock
from comms.platform.settings import RetryPolicy
from consumers.ledger.delivery import Delivery
from consumers.pipeline import retry
from consumers.pipeline.claiming import Chosen
from consumers.routing import Aside, Choice, NoWay, Router
from consumers.sdk.unconfigured import UnconfiguredProvider

NOBODY = "none"  # in the place of a provider's name


@dataclass(slots=True)
class Sorted:
    """What is to become of heads of lanes; `aside` with seconds."""

    chosen: list[Chosen] = field(default_factory=list)
    waiting: list[Delivery] = field(default_factory=list)
    aside: list[tuple[Delivery, float]] = field(default_factory=list)


class Chooser:
    """For one channel's process."""

    def __init__(self, router: Router, policy: RetryPolicy, clock: Clock) -> None:
        self._router, self._policy, self._clock = router, policy, clock

    def sort(self, heads: Sequence[Delivery]) -> Sorted:
        """Each head to where it belongs."""
        found = Sorted()
        for n, head in enumerate(heads):
            choice = self._router.choose(head.message, self._clock().timestamp())
            if choice is not None:
                found.chosen.append((head, choice))
            elif self._is_sorted_otherwise(head, found):
                continue
            elif self._router.are_alike:  # what follows fares no better
                found.waiting.extend(heads[n:])
                break
            else:
                found.waiting.append(head)
        return found

    def _is_sorted_otherwise(self, head: Delivery, found: Sorted) -> bool:
        now = self._clock()
        match self._router.held_up(head.message, now.timestamp()):
            case None:
                return False
            case NoWay(why=why):
                found.chosen.append((head, _nobody(why)))
            case Aside() if retry.has_ended(self._policy, head.message, now=now):
                found.chosen.append((head, _nobody("its providers are left alone")))
            case Aside(seconds=seconds):
                found.aside.append((head, seconds))
        return True


def is_nobody(choice: Choice) -> bool:
    """Whether nobody is to be called."""
    return choice.provider.name == NOBODY


def _nobody(why: str) -> Choice:
    return Choice(UnconfiguredProvider(NOBODY), 0, why)
