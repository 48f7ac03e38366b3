"""Claims a batch of messages and decides, of each, what is to happen.

The dispatcher hands over messages with the provider chosen for each and acts on the verdicts. Most
are new: one statement claims them all. What the ledger knows already is looked up and decided by
`consumers.ledger.decisions`, and claimed again where another attempt is due.
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
from consumers.ledger.store import Claim, Ledger, Listed
from consumers.routing import Choice, Router
from consumers.suppression import normal
from schemas.messages import Message
from schemas.vocabulary import Reason, Status

CLAIM_IS_STALE = 5.0  # seconds; a call that could not begin by then is not made under this claim
NO_WAY_FOR_DOUBT = 5.0  # seconds for which a repetition waits for its provider's rate limit
VANISHED_SECONDS = 0.5

# Why a provider did not take a message that another may take.
_NOT_NOW = frozenset(
    {Reason.PROVIDER_ERROR, Reason.TIMEOUT, Reason.RATE_LIMITED, Reason.ACCOUNT_FAULT}
)

Chosen = tuple[Delivery, Choice]


class Claimer:
    """For one channel's process. Every method may raise `DatabaseUnavailableError`: nothing is
    claimed, as far as is known, and the same may be tried again."""

    def __init__(
        self, ledger: Ledger, router: Router, settings: ChannelSettings, clock: Clock
    ) -> None:
        self._ledger, self._router = ledger, router
        self._settings, self._clock = settings, clock

    async def verdicts(self, chosen: Sequence[Chosen]) -> dict[int, ClaimDecision]:
        """A verdict for each delivery: most are new, and one statement claims them all."""
        verdicts: dict[int, ClaimDecision] = {}
        claims = [
            Claim(
                delivery=d,
                attempt=1,
                provider=c.provider.name,
                is_resend_request=d.resend_request is not None,
            )
            for d, c in chosen
        ]
        ours = await self._ledger.claim(claims) if claims else {}
        known = [(d, c) for d, c in chosen if d.message.id not in ours]
        for delivery, _ in chosen:
            verdicts[id(delivery)] = _unless_suppressed(
                _first(delivery), delivery.message, ours.get(delivery.message.id)
            )
        if known:
            verdicts |= await self._verdicts_on_known(known)
        return verdicts

    async def _verdicts_on_known(self, known: Sequence[Chosen]) -> dict[int, ClaimDecision]:
        found = await self._ledger.look_up([d for d, _ in known])
        verdicts = {id(d): self._decide(found.get(d.message.id), d) for d, _ in known}
        again: list[tuple[Delivery, Begin]] = []
        claims: list[Claim] = []
        for delivery, choice in known:
            verdict = verdicts[id(delivery)]
            if isinstance(verdict, Begin):
                last = found[delivery.message.id].newest
                verdict = self._by_whom(verdict, delivery, choice, last=last)
                verdicts[id(delivery)] = verdict
            if isinstance(verdict, Begin):
                again.append((delivery, verdict))
                claims.append(
                    Claim(
                        delivery=delivery,
                        attempt=verdict.attempt,
                        provider=(verdict.choice or choice).provider.name,
                        repeats_doubt=verdict.reason is Reason.AMBIGUOUS,
                        is_resend_request=verdict.reason is Reason.RESENT,
                    )
                )
        ours = await self._ledger.claim(claims) if claims else {}
        for delivery, begin in again:
            if delivery.message.id not in ours:  # another process was quicker
                verdicts[id(delivery)] = Defer(self.doubt_after)
            else:
                verdicts[id(delivery)] = _unless_suppressed(
                    begin, delivery.message, ours[delivery.message.id]
                )
        return verdicts

    def _by_whom(
        self, begin: Begin, delivery: Delivery, choice: Choice, *, last: LedgerEntry
    ) -> ClaimDecision:
        """Who makes an attempt that is not the first; `last` is the one before.

        A call whose answer was lost is repeated by the same provider if that one knows it from the
        first time, so that it is carried out once. Another one is better asked elsewhere: it may
        be carried out twice either way, and who fell silent once may do so again. What a provider
        could not take now goes to another as well, where there is one that works. Where it was our
        worker that fell silent, nothing speaks against the provider, and the same one repeats it.
        """
        name = begin.in_doubt_with
        if name is not None and last.status is None:
            return self._retry_same_provider(begin, choice, name)
        if name is not None and self._router.knows_repeats(name):
            return self._prefer_same_provider(begin, choice, name)
        if name is None and not (last.status is Status.SENDING and last.reason in _NOT_NOW):
            return begin
        shunned = name or last.provider
        if choice.provider.name != shunned:
            return begin
        other = self._router.alternative_to(delivery.message, shunned, self._clock().timestamp())
        return begin if other is None else replace(begin, choice=other)

    def _retry_same_provider(self, begin: Begin, choice: Choice, name: str) -> ClaimDecision:
        """And by no other: it waits until that one can be called. Where it is configured no more,
        only a person's wish leads to another."""
        if choice.provider.name == name:
            return begin
        try:
            same = self._router.same_provider(name, self._clock().timestamp())
        except KeyError:
            if begin.reason is Reason.RESENT:
                return replace(begin, in_doubt_with=None)
            return HoldUnknown(begin.attempt - 1, name)
        return Defer(NO_WAY_FOR_DOUBT) if same is None else replace(begin, choice=same)

    def _prefer_same_provider(self, begin: Begin, choice: Choice, name: str) -> ClaimDecision:
        """Or by the one chosen, where the same is left alone; its rate limit is waited for."""
        if choice.provider.name == name:
            return begin
        same = self._router.same_provider(name, self._clock().timestamp())
        if same is not None:
            return replace(begin, choice=same)
        is_away = self._router.resting(name) or self._router.needs_setup(name)
        return begin if is_away else Defer(NO_WAY_FOR_DOUBT)

    def _decide(self, known: AttemptHistory | None, delivery: Delivery) -> ClaimDecision:
        if known is None:  # it was there a moment ago: its partition of the ledger was dropped
            return Defer(VANISHED_SECONDS)
        return decide(
            known,
            delivery,
            on_doubt=self._settings.on_doubt,
            doubt_after=self.doubt_after,
            most=self._settings.retry.attempts,
        )

    @property
    def doubt_after(self) -> float:
        """Seconds after which a claim's call cannot be running any more, wherever it was made."""
        return self._settings.call_timeout_seconds + 2 * CLAIM_IS_STALE


def _first(delivery: Delivery) -> Begin:
    """A first attempt. A letter that was put back, or what a person wishes to have sent, may have
    ended as `failed` before: it begins a new chapter of the message's life."""
    return Begin(1, Reason.RESENT) if delivery.replayed or delivery.resend_request else Begin(1)


def _unless_suppressed(begin: Begin, message: Message, listed: Listed | None) -> ClaimDecision:
    """Nothing where all of its recipients are listed; the others alone where some are."""
    if not listed:
        return begin
    why = next(iter(listed.values()))
    if message.bypass_suppression:
        return replace(begin, bypassed=why)
    out = frozenset(one for one in message.recipients if normal(message.channel, one) in listed)
    if len(out) == len(message.recipients):
        return Suppress(begin, why)
    return replace(begin, suppressed_recipients=out)
