"""Records how each call of a provider ended: in metrics, for the router, and for readiness."""

from prometheus_client import Counter, Histogram

from comms.platform import metrics
from comms.platform.clock import Clock
from consumers.routing import Router
from consumers.routing.health import ProviderHealth
from consumers.sdk.outcomes import Ambiguous, Outcome, label_of
from schemas.vocabulary import Channel, Mode


class CallMetrics:
    """The metrics of one channel's calls.

    It keeps the metrics it has used: to find one by its labels costs as much as to count.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._by_labels: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def count(self, provider: str, outcome: Outcome, seconds: float) -> None:
        """Count a call that ended after so many seconds."""
        attempts, durations = self._find(provider, label_of(outcome))
        attempts.inc()
        durations.observe(seconds)
        if isinstance(outcome, Ambiguous):
            metrics.ambiguous_total.labels(self._channel).inc()

    def _find(self, provider: str, label: str) -> tuple[Counter, Histogram]:
        pair = self._by_labels.get((provider, label))
        if pair is None:
            labels = (self._channel, provider, label)
            pair = (
                metrics.attempts_total.labels(*labels),
                metrics.provider_request_seconds.labels(*labels),
            )
            self._by_labels[provider, label] = pair
        return pair


class CallObserver:
    """Records the calls of one channel process."""

    def __init__(
        self, channel: Channel, router: Router, health: ProviderHealth, clock: Clock
    ) -> None:
        self._metrics = CallMetrics(channel)
        self._router = router
        self._health = health
        self._clock = clock

    def record(self, provider: str, outcome: Outcome, *, seconds: float, mode: Mode) -> None:
        """Record a call that ended after so many seconds.

        Args:
            mode: of the message. Test messages do not show how a provider handles other messages.
        """
        self._metrics.count(provider, outcome, seconds)
        if mode is not Mode.TEST:
            now = self._clock()
            self._health.record_outcome(provider, outcome, at=now)
            self._router.record_outcome(provider, outcome, seconds=seconds, now=now.timestamp())
