"""Calls a provider, and settles the outcome.

The attempt starter begins each call in a task of its own.
"""

import asyncio
from collections.abc import Callable

import structlog

from comms.platform.settings import ChannelSettings
from consumers.pipeline.call_observer import CallObserver
from consumers.pipeline.claiming import CLAIM_MAX_AGE, compute_doubt_after
from consumers.pipeline.deferral import Deferrer
from consumers.pipeline.running import RunningTasks
from consumers.pipeline.settle_loop import SettleLoop
from consumers.pipeline.settlement import Call, Settler
from consumers.sdk.outcomes import Ambiguous, Outcome, without_side_effects
from consumers.sdk.provider import Attempt, Provider
from schemas.events import ProviderResponse
from schemas.messages import Message
from schemas.vocabulary import Mode

log = structlog.get_logger(__name__)

TIMED_OUT = ProviderResponse(detail="no answer in time")
ADAPTER_FAILED = ProviderResponse(detail="the adapter failed in the call")


class Caller:
    """Makes the calls of one channel process.

    Args:
        monotonic: seconds, by which calls are timed.
    """

    def __init__(
        self,
        settings: ChannelSettings,
        settler: Settler,
        observer: CallObserver,
        *,
        deferrer: Deferrer,
        settle_loop: SettleLoop,
        running: RunningTasks,
        monotonic: Callable[[], float],
    ) -> None:
        self._timeout = settings.call_timeout_seconds + CLAIM_MAX_AGE
        self._doubt_after = compute_doubt_after(settings)
        self._settler = settler
        self._observer = observer
        self._deferrer = deferrer
        self._settle_loop = settle_loop
        self._running = running
        self._monotonic = monotonic

    def start(self, call: Call, provider: Provider[Message], claimed_at: float) -> None:
        """Begin a call in a task of its own.

        Args:
            claimed_at: monotonic seconds at which the claim was requested.
        """
        self._running.start(self._call(call, provider, claimed_at))

    async def _call(self, call: Call, provider: Provider[Message], claimed_at: float) -> None:
        started = self._monotonic()
        if started - claimed_at > CLAIM_MAX_AGE:  # the process was suspended: another may repeat it
            await self._deferrer.defer([(call.delivery, self._doubt_after)])
            return
        outcome = await self._send(call, provider)
        mode = call.delivery.message.mode
        self._observer.record(
            provider.name, outcome, seconds=self._monotonic() - started, mode=mode
        )
        if mode is not Mode.LIVE:
            outcome = without_side_effects(outcome)
        self._settle_loop.add(self._settler.settle(call, outcome))

    async def _send(self, call: Call, provider: Provider[Message]) -> Outcome:
        message = call.delivery.message
        attempt = Attempt(
            message.id, call.attempt, call.idempotency_attempt, call.suppressed_recipients
        )
        try:
            async with asyncio.timeout(self._timeout):
                return await provider.send(message, attempt)
        except TimeoutError:
            return Ambiguous(response=TIMED_OUT)
        except Exception:  # a defect of an adapter must not lose the message, nor guess an outcome
            log.exception("provider.defect", provider=provider.name, message_id=str(attempt))
            return Ambiguous(response=ADAPTER_FAILED)
