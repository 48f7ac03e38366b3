"""Tracks which offsets may be committed: those below which everything is settled.

Only the poll thread uses an `OffsetTracker`, but for `is_current`. The tracker counts the records
that were fetched and the records that are done, and knows the next offset to commit of each
partition. A partition that left and came back has a new epoch, and reports under an old epoch are
dropped. A partition whose log begins again has a new epoch too, but it never left: the records
fetched from the old log are still this process's to deliver.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from comms.platform.kafka import TopicPartition
from consumers.ledger.delivery import Offset


@dataclass(slots=True)
class _PartitionProgress:
    """The progress of one partition.

    Args:
        epoch: of the records fetched now.
        assigned_epoch: the epoch under which the partition was assigned.
        fetched: offset and timestamp of each record that is not below `next_offset`, in order.
        done: offsets that are done while an earlier one is not.
        abandoned: how many records were given up.
        is_leaving: the partition is being revoked.
        next_offset: the offset to commit, once one is known.
        committed: the last offset that was committed.
    """

    epoch: int
    assigned_epoch: int
    fetched: deque[tuple[int, int]] = field(default_factory=deque)
    done: set[int] = field(default_factory=set)
    abandoned: int = 0
    is_leaving: bool = False
    next_offset: int | None = None
    committed: int | None = None

    @property
    def open_count(self) -> int:
        return len(self.fetched) - len(self.done) - self.abandoned


class OffsetTracker:
    """The progress of every assigned partition."""

    def __init__(self) -> None:
        self._partitions: dict[TopicPartition, _PartitionProgress] = {}
        self._epoch = 0

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin with these partitions, under a new epoch."""
        self._epoch += 1
        for partition in partitions:
            self._partitions[partition] = _PartitionProgress(self._epoch, self._epoch)

    def restart(self, partition: TopicPartition) -> None:
        """Begin again with an assigned partition whose offsets begin again.

        Its log was replaced, or a part of the log was deleted.
        """
        if partition in self._partitions:
            self._epoch += 1
            assigned_epoch = self._partitions[partition].assigned_epoch
            self._partitions[partition] = _PartitionProgress(self._epoch, assigned_epoch)

    def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Mark partitions that are leaving: records that have not begun are no longer current."""
        for partition in partitions:
            if partition in self._partitions:
                self._partitions[partition].is_leaving = True

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop partitions that have left."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def track(self, partition: TopicPartition, offset: int, timestamp: int) -> Offset | None:
        """Count a fetched record as open.

        Args:
            timestamp: of the record, in milliseconds since the epoch.

        Returns:
            The source of the record's delivery; None if the partition is not assigned.
        """
        progress = self._partitions.get(partition)
        if progress is None:
            return None
        progress.fetched.append((offset, timestamp))
        return Offset(partition, offset, progress.epoch)

    def mark_done(self, source: Offset) -> None:
        """Count a record as done. A repeated report changes nothing."""
        progress = self._find(source)
        if progress is None or source.offset < (progress.next_offset or 0):
            return
        progress.done.add(source.offset)
        while progress.fetched and progress.fetched[0][0] in progress.done:
            offset, _ = progress.fetched.popleft()
            progress.done.discard(offset)
            progress.next_offset = offset + 1

    def mark_abandoned(self, source: Offset) -> None:
        """Count a record as given up. Neither it nor a later record is committed."""
        progress = self._find(source)
        if progress is not None:
            progress.abandoned += 1

    def is_current(self, source: Offset) -> bool:
        """Whether the record's partition was assigned before the fetch and is not leaving."""
        progress = self._partitions.get(source.partition)
        return (
            progress is not None
            and progress.assigned_epoch <= source.epoch
            and not progress.is_leaving
        )

    def offsets_to_commit(self) -> Mapping[TopicPartition, int]:
        """The next offset of each partition that is beyond the committed one."""
        return {
            partition: progress.next_offset
            for partition, progress in self._partitions.items()
            if progress.next_offset is not None and progress.next_offset != progress.committed
        }

    def mark_committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Remember offsets that were committed."""
        for partition, offset in offsets.items():
            if partition in self._partitions:
                self._partitions[partition].committed = offset

    def count_open(self, partitions: Iterable[TopicPartition] | None = None) -> int:
        """Count the records that are fetched, not done and not given up.

        Args:
            partitions: the partitions to count in; all that are assigned if None.
        """
        chosen = self._partitions.keys() if partitions is None else partitions
        return sum(self._partitions[p].open_count for p in chosen if p in self._partitions)

    def position(self, partition: TopicPartition) -> int | None:
        """The offset below which everything is settled, once it is known."""
        progress = self._partitions.get(partition)
        return None if progress is None else progress.next_offset

    def oldest_age(self, now: float | None = None) -> float:
        """The age in seconds of the oldest open record by its timestamp; 0 if none is open.

        Args:
            now: seconds since the epoch; the present if None.
        """
        timestamps = [p.fetched[0][1] for p in self._partitions.values() if p.fetched]
        present = time.time() if now is None else now
        return max(0.0, present - min(timestamps) / 1000) if timestamps else 0.0

    def partitions(self) -> tuple[TopicPartition, ...]:
        """The assigned partitions."""
        return tuple(self._partitions)

    def _find(self, source: Offset) -> _PartitionProgress | None:
        """Return the progress of a source's partition, if it is still in the source's epoch."""
        progress = self._partitions.get(source.partition)
        return progress if progress is not None and progress.epoch == source.epoch else None
