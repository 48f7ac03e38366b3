"""Reports attempts that are claimed: the `sending` event of each, and the metrics of its start."""

import structlog

from comms.platform import metrics
from comms.platform.clock import Clock
from consumers.pipeline.retry import due_time
from consumers.pipeline.settlement import Call
from consumers.status.publisher import StatusPublisher
from schemas import events
from schemas.messages import Message
from schemas.vocabulary import Channel, Priority

log = structlog.get_logger(__name__)


class AttemptReporter:
    """Reports the attempts of one channel process."""

    def __init__(self, channel: Channel, publisher: StatusPublisher, clock: Clock) -> None:
        self._channel = channel
        self._publisher = publisher
        self._clock = clock
        self._waits = {p: metrics.message_wait_seconds.labels(channel, p) for p in Priority}

    def publish_claim(self, call: Call, detail: str) -> None:
        """Publish that an attempt begins.

        The event of a resend is published even if no call follows. It opens the send cycle that the
        events after it belong to.
        """
        self._publisher.publish(
            events.claimed(
                call.delivery.message,
                attempt=call.attempt,
                provider=call.provider,
                at=self._clock(),
                reason=call.reason,
                detail=detail,
            )
        )

    def observe_wait(self, message: Message) -> None:
        """Measure how long a message waited for its first attempt."""
        waited = self._clock() - due_time(message)
        self._waits[message.priority].observe(waited.total_seconds())

    def count_ambiguous(self) -> None:
        """Count a call whose answer was lost."""
        metrics.ambiguous_total.labels(self._channel).inc()

    def count_bypass(self, call: Call, why: str) -> None:
        """Count and log an attempt whose message ignores the suppression list.

        Args:
            why: why the recipient is on the list.
        """
        message = call.delivery.message
        metrics.suppressions_bypassed_total.labels(self._channel).inc()
        log.warning(
            "suppression.bypassed",
            message_id=str(message.id),
            tenant=message.tenant,
            attempt=call.attempt,
            listed=why,
        )
