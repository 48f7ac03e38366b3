"""Starts attempts that are claimed: each one is reported, and called or ended.

The decision handler uses it for each `Begin`. A message that expired meanwhile, or that no provider
takes, ends here without a call.
"""

from consumers.pipeline.attempt_reporter import AttemptReporter
from consumers.pipeline.calling import Caller
from consumers.pipeline.selection import is_no_provider
from consumers.pipeline.settle_loop import SettleLoop
from consumers.pipeline.settlement import Call, Settler
from consumers.routing import Choice, Router
from schemas.vocabulary import Reason


class AttemptStarter:
    """Starts the attempts of one channel process."""

    def __init__(
        self,
        router: Router,
        settler: Settler,
        reporter: AttemptReporter,
        *,
        caller: Caller,
        settle_loop: SettleLoop,
    ) -> None:
        self._router = router
        self._settler = settler
        self._reporter = reporter
        self._caller = caller
        self._settle_loop = settle_loop

    def start(self, call: Call, choice: Choice, *, claimed_at: float, bypassed: str | None) -> None:
        """Call the chosen provider, unless the message ends before that.

        Args:
            claimed_at: monotonic seconds at which the claim was requested.
            bypassed: why the recipient is on the suppression list, if the message ignores that.
        """
        ending = self._settler.end_if_too_late(call)
        if ending is None and is_no_provider(choice):
            ending = self._settler.end_without_provider(call, choice.why)
        if ending is None or call.reason is Reason.RESENT:
            self._reporter.publish_claim(call, _describe(choice, bypassed))
        if ending is not None:
            self._router.release(choice)
            self._settle_loop.add(ending)
            return
        if call.attempt == 1:
            self._reporter.observe_wait(call.delivery.message)
        if call.repeats_doubt:
            self._reporter.count_ambiguous()
        if bypassed is not None:
            self._reporter.count_bypass(call, bypassed)
        self._caller.start(call, choice.provider, claimed_at)


def _describe(choice: Choice, bypassed: str | None) -> str:
    """Return the detail of the `sending` event."""
    if bypassed is None:
        return choice.why
    return f"{choice.why}; suppression bypassed, as the message asks: {bypassed}"
