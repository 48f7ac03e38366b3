"""Runs the lanes of a channel process, each poller on a thread of its own.

`consumers.service` calls `LaneThreads.run` on its main thread. The reporter reads the lag over all
lanes.
"""

import threading
from collections.abc import Callable, Sequence

from comms.platform import metrics
from consumers.pipeline.poller import LanePoller
from schemas.vocabulary import Channel


class LaneThreads:
    """The lanes of one channel process."""

    def __init__(self, channel: Channel, pollers: Sequence[LanePoller]) -> None:
        self._channel = channel
        self._pollers = pollers

    @property
    def is_broker_reachable(self) -> bool:
        """Whether a broker answered the last poll of every lane."""
        return all(poller.is_broker_reachable for poller in self._pollers)

    def measure_lag(self) -> tuple[int, float]:
        """Return the lag over all lanes, and set its metrics.

        Returns:
            The number of messages that are not settled, and the age of the oldest in seconds.
        """
        lags = [poller.lag for poller in self._pollers]
        messages = sum(count for count, _ in lags)
        seconds = max(age for _, age in lags)
        metrics.consumer_lag_messages.labels(self._channel).set(messages)
        metrics.consumer_lag_seconds.labels(self._channel).set(seconds)
        return messages, seconds

    def run(self, stop: threading.Event, on_failure: Callable[[BaseException], None]) -> None:
        """Poll all lanes until `stop` is set, drain them, and return.

        Args:
            on_failure: called with the error that ended a lane early. It must set `stop`, so that
                the other lanes end too.
        """

        def poll(poller: LanePoller) -> None:
            try:
                poller.run(stop.is_set)
            except BaseException as error:
                on_failure(error)

        threads = [
            threading.Thread(target=poll, args=(poller,), name=poller.topic)
            for poller in self._pollers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
