"""Where deliveries came from: told what became of each, and asked whether it is still ours.

The dispatcher knows sources alone. An `AckRouter` hands each report to the lane's runner or to the
feed of deferred messages, and runs the lanes, each on a thread of its own.
"""

import threading
from collections.abc import Callable, Sequence

import structlog

from comms.platform import metrics
from consumers.ledger.delivery import DeliverySource, Lease, Offset
from consumers.pipeline.deferred import DeferredFeed
from consumers.pipeline.poller import LanePoller
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)


class AckRouter:
    """The lanes and the deferred feed of one channel process; set once, before anything runs."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._runners: dict[str, LanePoller] = {}
        self._feed: DeferredFeed | None = None

    def begin_with(self, runners: Sequence[LanePoller], feed: DeferredFeed) -> None:
        """These are all."""
        self._runners = {runner.topic: runner for runner in runners}
        self._feed = feed

    def done(self, source: DeliverySource) -> None:
        """Settled and announced; from any thread."""
        match source:
            case Offset():
                self._runners[source.place[0]].done(source)
            case Lease() if self._feed is not None:
                self._feed.done(source)

    def abandoned(self, source: DeliverySource) -> None:
        """Given up before it was claimed."""
        if isinstance(source, Offset):
            self._runners[source.place[0]].abandoned(source)

    def is_current(self, source: DeliverySource) -> bool:
        """Whether the source is still this process's to work on."""
        return isinstance(source, Lease) or self._runners[source.place[0]].is_current(source)

    @property
    def reachable(self) -> bool:
        """Whether a broker answered every lane when last asked."""
        return all(runner.reachable for runner in self._runners.values())

    def lag(self) -> tuple[int, float]:
        """Messages not yet settled, and the age of the oldest in seconds, over all lanes."""
        lags = [runner.lag for runner in self._runners.values()]
        found = sum(count for count, _ in lags), max(age for _, age in lags)
        metrics.consumer_lag_messages.labels(self._channel).set(found[0])
        metrics.consumer_lag_seconds.labels(self._channel).set(found[1])
        return found

    def run(self, stop: threading.Event, failed: Callable[[BaseException], None]) -> None:
        """Read all lanes until `stop` is set, drain, and return.

        Args:
            failed: told what ended a lane early; all others are stopped by it.
        """

        def work(runner: LanePoller) -> None:
            try:
                runner.run(stop.is_set)
            except BaseException as error:
                failed(error)

        threads = [
            threading.Thread(target=work, args=(runner,), name=runner.topic)
            for runner in self._runners.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
