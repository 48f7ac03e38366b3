"""Routes reports about deliveries to where the deliveries came from.

The dispatcher knows only sources. An `AckRouter` passes each report on: to the progress of the
record's lane, or to that of the deferred queue.
"""

from collections.abc import Mapping

from consumers.ledger.delivery import DeliverySource, Lease, Offset
from consumers.pipeline.progress import LaneProgress, LeaseProgress


class AckRouter:
    """The sources of one channel process; its methods may be called from any thread.

    Args:
        lanes: the progress of each lane, by topic.
    """

    def __init__(self, lanes: Mapping[str, LaneProgress], leases: LeaseProgress) -> None:
        self._lanes = lanes
        self._leases = leases

    def mark_done(self, source: DeliverySource) -> None:
        """Report a source whose message is settled and whose event is published."""
        if isinstance(source, Offset):
            self._lanes[source.partition[0]].mark_done(source)
        else:
            self._leases.mark_done(source)

    def mark_abandoned(self, source: DeliverySource) -> None:
        """Report a source that was given up before it was claimed."""
        if isinstance(source, Offset):
            self._lanes[source.partition[0]].mark_abandoned(source)

    def is_current(self, source: DeliverySource) -> bool:
        """Whether the source still belongs to this process."""
        return isinstance(source, Lease) or self._lanes[source.partition[0]].is_current(source)
