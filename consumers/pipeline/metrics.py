"""Counts and times of a channel's calls, for Prometheus; the dispatcher tells each call's end."""

from prometheus_client import Counter, Histogram

from comms.platform import metrics
from consumers.sdk.outcomes import Ambiguous, Outcome, label_of
from schemas.vocabulary import Channel


class CallMeters:
    """Of one channel's process. Looking a metric up by its labels costs as much as counting."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._of: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def count(self, provider: str, outcome: Outcome, seconds: float) -> None:
        """A call ended."""
        attempts, durations = self._meters(provider, label_of(outcome))
        attempts.inc()
        durations.observe(seconds)
        if isinstance(outcome, Ambiguous):
            metrics.ambiguous_total.labels(self._channel).inc()

    def _meters(self, provider: str, word: str) -> tuple[Counter, Histogram]:
        found = self._of.get((provider, word))
        if found is None:
            labels = (self._channel, provider, word)
            found = (
                metrics.attempts_total.labels(*labels),
                metrics.provider_request_seconds.labels(*labels),
            )
            self._of[provider, word] = found
        return found
