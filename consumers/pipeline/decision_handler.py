"""Acts on the decision about each message of a claimed batch.

The claim loop calls it for every message. An attempt that is to begin goes to the attempt starter;
everything else ends the delivery here, with an event or without, or defers it.
"""

from typing import assert_never

from comms.platform import metrics
from consumers.ledger.decisions import (
    AlreadySettled,
    Begin,
    ClaimDecision,
    Defer,
    HoldUnknown,
    Suppress,
)
from consumers.ledger.delivery import Delivery
from consumers.pipeline.attempt_reporter import AttemptReporter
from consumers.pipeline.attempt_starter import AttemptStarter
from consumers.pipeline.claiming import CLAIM_MAX_AGE
from consumers.pipeline.completion import Completion
from consumers.pipeline.deferral import Deferrer
from consumers.pipeline.settle_loop import SettleLoop
from consumers.pipeline.settlement import Call, Settler, rebuild_event
from consumers.routing import Choice, Router
from schemas.vocabulary import Reason


class DecisionHandler:
    """Acts on the decisions of one channel process.

    Args:
        doubt_after: seconds after which the call of an unsettled claim cannot be running any more.
    """

    def __init__(
        self,
        starter: AttemptStarter,
        settler: Settler,
        router: Router,
        *,
        reporter: AttemptReporter,
        deferrer: Deferrer,
        settle_loop: SettleLoop,
        completion: Completion,
        doubt_after: float,
    ) -> None:
        self._router = router
        self._settler = settler
        self._starter = starter
        self._reporter = reporter
        self._deferrer = deferrer
        self._settle_loop = settle_loop
        self._completion = completion
        self._begins_within = doubt_after - CLAIM_MAX_AGE

    def handle(
        self, delivery: Delivery, choice: Choice, decision: ClaimDecision, *, claimed_at: float
    ) -> None:
        """Act on one decision.

        Args:
            choice: the provider that was selected for the message.
            claimed_at: monotonic seconds at which the claim was requested.
        """
        if isinstance(decision, Begin):
            self._begin(delivery, choice, decision, claimed_at=claimed_at)
            return
        self._router.release(choice)
        match decision:
            case AlreadySettled(entry=entry):
                metrics.duplicates_suppressed_total.labels("claim").inc()
                self._completion.complete(delivery, rebuild_event(delivery, entry))
            case Suppress():
                self._suppress(delivery, choice, decision)
            case HoldUnknown():
                self._reporter.count_ambiguous()
                self._settle_loop.add(self._settler.hold(delivery, decision))
            case Defer(seconds=seconds):
                # A call that runs elsewhere has begun after this time, or will not begin.
                hold = seconds - self._begins_within
                self._deferrer.start([(delivery, seconds)], hold=hold)
            case _:
                assert_never(decision)

    def _begin(
        self, delivery: Delivery, choice: Choice, begin: Begin, *, claimed_at: float
    ) -> None:
        chosen = begin.choice or choice
        if chosen is not choice:
            self._router.release(choice)
        call = Call.from_decision(begin, delivery, chosen.provider.name)
        self._starter.start(call, chosen, claimed_at=claimed_at, bypassed=begin.bypassed)

    def _suppress(self, delivery: Delivery, choice: Choice, decision: Suppress) -> None:
        begin = decision.begin
        call = Call.from_decision(begin, delivery, (begin.choice or choice).provider.name)
        if call.reason is Reason.RESENT:
            self._reporter.publish_claim(call, decision.why)
        self._settle_loop.add(self._settler.suppress(call, decision.why))
