"""Claims a batch of messages and decides what happens to each.

The claim loop passes messages with the provider selected for each, and the decision handler acts on
the decisions. Most messages are new, and one statement claims them all. A message that the ledger
knows already is looked up, decided by `consumers.ledger.decisions`, and claimed again if another
attempt is due.
"""

from collections.abc import Sequence
from dataclasses import replace

from comms.platform.clock import Clock
from comms.platform.settings import ChannelSettings
from consumers.ledger.decisions import (
    AttemptHistory,
    Begin,
    ClaimDecision,
    Defer,
    HoldUnknown,
    LedgerEntry,
    Suppress,
    decide,
)
from consumers.ledger.delivery import Delivery
from consumers.ledger.store import Claim, Ledger, Suppressions
from consumers.routing import Choice, Router
from consumers.suppression import normal
from schemas.messages import Message
from schemas.vocabulary import Reason, Status

CLAIM_MAX_AGE = 5.0  # seconds; a call that could not begin by then is not made under this claim
SAME_PROVIDER_SECONDS = 5.0  # between looks whether the same provider can repeat its call
VANISHED_SECONDS = 0.5

# Reasons of a failed attempt for which another provider is tried.
_FAILOVER_REASONS = frozenset(
    {Reason.PROVIDER_ERROR, Reason.TIMEOUT, Reason.RATE_LIMITED, Reason.ACCOUNT_FAULT}
)

Candidate = tuple[Delivery, Choice]  # a message, and the provider selected for it


def compute_doubt_after(settings: ChannelSettings) -> float:
    """Return the seconds after which a claim's call cannot be running any more, in any process."""
    return settings.call_timeout_seconds + 2 * CLAIM_MAX_AGE


class Claimer:
    """Claims for one channel process."""

    def __init__(
        self, ledger: Ledger, router: Router, settings: ChannelSettings, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._router = router
        self._settings = settings
        self._clock = clock
        self._doubt_after = compute_doubt_after(settings)

    async def claim(self, candidates: Sequence[Candidate]) -> list[ClaimDecision]:
        """Claim messages, and decide what happens to each.

        Returns:
            A decision for each candidate, in the same order.

        Raises:
            DatabaseUnavailableError: as far as is known nothing is claimed. The call may be
                repeated.
        """
        claims = [
            Claim(
                delivery=delivery,
                attempt=1,
                provider=choice.provider.name,
                is_resend_request=delivery.resend_request is not None,
            )
            for delivery, choice in candidates
        ]
        claimed = await self._ledger.claim(claims) if claims else {}
        known = [pair for pair in candidates if pair[0].message.id not in claimed]
        known_decisions = iter(await self._decide_known(known) if known else ())
        return [
            next(known_decisions)
            if (suppressions := claimed.get(delivery.message.id)) is None
            else _apply_suppressions(_first_attempt(delivery), delivery.message, suppressions)
            for delivery, _ in candidates
        ]

    async def _decide_known(self, candidates: Sequence[Candidate]) -> list[ClaimDecision]:
        """Decide on messages that the ledger knows, and claim their next attempts."""
        histories = await self._ledger.look_up([delivery for delivery, _ in candidates])
        decisions: list[ClaimDecision] = [
            self._decide(histories.get(delivery.message.id), delivery, choice)
            for delivery, choice in candidates
        ]
        claims = [
            Claim(
                delivery=delivery,
                attempt=decision.attempt,
                provider=(decision.choice or choice).provider.name,
                repeats_doubt=decision.reason is Reason.AMBIGUOUS,
                is_resend_request=decision.reason is Reason.RESENT,
            )
            for (delivery, choice), decision in zip(candidates, decisions, strict=True)
            if isinstance(decision, Begin)
        ]
        claimed = await self._ledger.claim(claims) if claims else {}
        return [
            self._confirm(decision, delivery.message, claimed.get(delivery.message.id))
            if isinstance(decision, Begin)
            else decision
            for (delivery, _), decision in zip(candidates, decisions, strict=True)
        ]

    def _confirm(
        self, begin: Begin, message: Message, suppressions: Suppressions | None
    ) -> ClaimDecision:
        """Keep the decision to begin if the attempt was claimed; `suppressions` is None if not."""
        if suppressions is None:  # another process was faster
            return Defer(self._doubt_after)
        return _apply_suppressions(begin, message, suppressions)

    def _decide(
        self, history: AttemptHistory | None, delivery: Delivery, choice: Choice
    ) -> ClaimDecision:
        if history is None:  # its partition of the ledger was dropped a moment ago
            return Defer(VANISHED_SECONDS)
        decision = decide(
            history,
            delivery,
            on_doubt=self._settings.on_doubt,
            doubt_after=self._doubt_after,
            max_attempts=self._settings.retry.attempts,
        )
        if isinstance(decision, Begin):
            return self._select_provider(decision, delivery, choice, last=history.newest)
        return decision

    def _select_provider(
        self, begin: Begin, delivery: Delivery, choice: Choice, *, last: LedgerEntry
    ) -> ClaimDecision:
        """Select the provider of an attempt that is not the first.

        A call whose answer was lost is repeated by the same provider if that provider recognises
        repetitions: then it is carried out once. Otherwise it may be carried out twice with any
        provider, and one that did not answer may not answer again. So another one is preferred.
        The same holds for an attempt that the provider could not take. Where our own process was
        lost, the provider is not at fault, and the same one repeats the call.

        Args:
            last: the attempt before this one.
        """
        name = begin.in_doubt_with
        if name is not None and last.status is None:
            return self._retry_same_provider(begin, choice, name)
        if name is not None and self._router.has_idempotency_key(name):
            return self._prefer_same_provider(begin, choice, name)
        failed_over = last.status is Status.SENDING and last.reason in _FAILOVER_REASONS
        if name is None and not failed_over:
            return begin
        avoided = name or last.provider
        if choice.provider.name != avoided:
            return begin
        other = self._router.alternative_to(delivery.message, avoided, self._clock().timestamp())
        return begin if other is None else replace(begin, choice=other)

    def _retry_same_provider(self, begin: Begin, choice: Choice, name: str) -> ClaimDecision:
        """Repeat by the same provider, and by no other: wait until it can be called.

        If it is not configured any more, only a resend request leads to another provider.
        """
        if choice.provider.name == name:
            return begin
        try:
            same = self._router.same_provider(name, self._clock().timestamp())
        except KeyError:
            if begin.reason is Reason.RESENT:
                return replace(begin, in_doubt_with=None)
            return HoldUnknown(begin.attempt - 1, name)
        return Defer(SAME_PROVIDER_SECONDS) if same is None else replace(begin, choice=same)

    def _prefer_same_provider(self, begin: Begin, choice: Choice, name: str) -> ClaimDecision:
        """Repeat by the same provider, or by the selected one while the same one rests.

        Its rate limit is waited for.
        """
        if choice.provider.name == name:
            return begin
        same = self._router.same_provider(name, self._clock().timestamp())
        if same is not None:
            return replace(begin, choice=same)
        is_paused = self._router.pause_reason(name) or self._router.setup_problem(name)
        return begin if is_paused else Defer(SAME_PROVIDER_SECONDS)


def _first_attempt(delivery: Delivery) -> Begin:
    """Begin with attempt 1.

    A replayed dead letter, or a resend request, may belong to a message that ended as `failed`
    before: it begins a new send cycle.
    """
    return Begin(1, Reason.RESENT) if delivery.replayed or delivery.resend_request else Begin(1)


def _apply_suppressions(
    begin: Begin, message: Message, suppressions: Suppressions
) -> Begin | Suppress:
    """Suppress a message if all of its recipients are on the list, else leave out those who are."""
    if not suppressions:
        return begin
    why = next(iter(suppressions.values()))
    if message.bypass_suppression:
        return replace(begin, bypassed=why)
    suppressed = frozenset(
        recipient
        for recipient in message.recipients
        if normal(message.channel, recipient) in suppressions
    )
    if len(suppressed) == len(message.recipients):
        return Suppress(begin, why)
    return replace(begin, suppressed_recipients=suppressed)
