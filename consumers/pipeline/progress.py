"""Which records of a lane, and which leases, are finished.

A poll thread owns a `LaneProgress` and commits by it, and the deferred feed owns a
`LeaseProgress`. `consumers.pipeline.acks` reports to both, from any thread.
"""

import threading
from collections import deque
from collections.abc import Iterable

from comms.platform.kafka import Record, TopicPartition
from consumers.ledger.delivery import Lease, Offset
from consumers.pipeline.offsets import OffsetTracker

LARGE_RECORD = 64 * 1024  # bytes; smaller records are limited by their number alone


class LaneProgress:
    """The progress of one lane.

    `mark_done`, `mark_abandoned` and `is_current` may be called from any thread. Everything else,
    `offsets` included, belongs to the poll thread.
    """

    def __init__(self) -> None:
        self.offsets = OffsetTracker()
        self._done: deque[Offset] = deque()
        self._abandoned: deque[Offset] = deque()
        self._changed = threading.Event()
        self._large: dict[Offset, int] = {}  # open records of at least LARGE_RECORD, in bytes

    def mark_done(self, source: Offset) -> None:
        """Report a record whose message is settled and whose event is published."""
        self._done.append(source)
        self._changed.set()

    def mark_abandoned(self, source: Offset) -> None:
        """Report a record that was given up before it was claimed."""
        self._abandoned.append(source)
        self._changed.set()

    def is_current(self, source: Offset) -> bool:
        """Whether the record's partition is still assigned to this process."""
        return self.offsets.is_current(source)

    def track(self, record: Record) -> Offset | None:
        """Count a fetched record as open; None if its partition is not assigned."""
        source = self.offsets.track(record.topic_partition, record.offset, record.timestamp)
        if source is not None and len(record.value) >= LARGE_RECORD:
            self._large[source] = len(record.value)
        return source

    def large_bytes(self) -> int:
        """The size of all large records that are open."""
        return sum(self._large.values())

    def apply_reports(self) -> None:
        """Move every report into the offset tracker."""
        self._changed.clear()
        while self._done:
            source = self._done.popleft()
            self.offsets.mark_done(source)
            self._large.pop(source, None)
        while self._abandoned:
            source = self._abandoned.popleft()
            self.offsets.mark_abandoned(source)
            self._large.pop(source, None)

    def wait(self, seconds: float) -> None:
        """Wait until something is reported, or until the time has passed."""
        self._changed.wait(seconds)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop everything about partitions that have left."""
        left = frozenset(partitions)
        self.offsets.forget(left)
        self._large = {s: size for s, size in self._large.items() if s.partition not in left}


class LeaseProgress:
    """Leased rows of the deferred queue whose messages are settled and published."""

    def __init__(self) -> None:
        self._done: deque[Lease] = deque()

    def mark_done(self, lease: Lease) -> None:
        """Report a row, from any thread."""
        self._done.append(lease)

    def pending(self) -> list[Lease]:
        """The rows that are reported and not yet removed, oldest first."""
        return [self._done[n] for n in range(len(self._done))]

    def remove_oldest(self, count: int) -> None:
        """Forget so many rows: they are deleted."""
        for _ in range(count):
            self._done.popleft()
