"""Which offsets may be committed: those below which everything is settled.

The poll thread alone uses a `OffsetTracker`. It tracks what was fetched, hears what is done, and
knows for each partition the next offset to commit. A partition that left and came back has a new
epoch, and what is reported under an old one is dropped. One that is read from its beginning has a
new one too, without having left: what was fetched before is still ours to process.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from comms.platform.kafka import TopicPartition
from consumers.ledger.delivery import Offset


@dataclass(slots=True)
class _Partition:
    epoch: int
    ours_since: int  # an epoch
    fetched: deque[tuple[int, int]] = field(default_factory=deque)  # (offset, timestamp), in order
    done: set[int] = field(default_factory=set)
    abandoned: int = 0
    leaving: bool = False
    next_offset: int | None = None
    committed: int | None = None

    @property
    def open(self) -> int:
        return len(self.fetched) - len(self.done) - self.abandoned


class OffsetTracker:
    """Progress of every assigned partition."""

    def __init__(self) -> None:
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._epoch = 0

    def assign(self, places: Iterable[TopicPartition]) -> None:
        """Begin with these partitions, under a new epoch."""
        self._epoch += 1
        for place in places:
            self._partitions[place] = _Partition(self._epoch, self._epoch)

    def begin_anew(self, place: TopicPartition) -> None:
        """The partition's log is another one, or a part of it: its offsets begin again."""
        if place in self._partitions:
            self._epoch += 1
            self._partitions[place] = _Partition(self._epoch, self._partitions[place].ours_since)

    def revoke(self, places: Iterable[TopicPartition]) -> None:
        """These partitions are leaving: what has not begun in them is no longer current."""
        for place in places:
            if place in self._partitions:
                self._partitions[place].leaving = True

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """These partitions are somebody else's now."""
        for place in places:
            self._partitions.pop(place, None)

    def fetched(self, place: TopicPartition, offset: int, timestamp: int) -> Offset | None:
        """A record was read; None if its partition is not ours."""
        partition = self._partitions.get(place)
        if partition is None:
            return None
        partition.fetched.append((offset, timestamp))
        return Offset(place, offset, partition.epoch)

    def done(self, source: Offset) -> None:
        """Everything about this record is settled. To say so again changes nothing."""
        partition = self._current(source)
        if partition is None or source.offset < (partition.next_offset or 0):
            return
        partition.done.add(source.offset)
        while partition.fetched and partition.fetched[0][0] in partition.done:
            offset, _ = partition.fetched.popleft()
            partition.done.discard(offset)
            partition.next_offset = offset + 1

    def abandoned(self, source: Offset) -> None:
        """This record was given up unprocessed; nothing from it on may be committed."""
        partition = self._current(source)
        if partition is not None:
            partition.abandoned += 1

    def is_current(self, source: Offset) -> bool:
        """Whether the record's partition has been ours since it was fetched, and stays so."""
        partition = self._partitions.get(source.place)
        return (
            partition is not None and partition.ours_since <= source.epoch and not partition.leaving
        )

    def to_commit(self) -> Mapping[TopicPartition, int]:
        """The next offsets that are further than what was committed."""
        return {
            place: partition.next_offset
            for place, partition in self._partitions.items()
            if partition.next_offset is not None and partition.next_offset != partition.committed
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """These were committed."""
        for place, offset in offsets.items():
            if place in self._partitions:
                self._partitions[place].committed = offset

    def open(self, places: Iterable[TopicPartition] | None = None) -> int:
        """How many records are fetched, not done and not given up."""
        chosen = self._partitions.keys() if places is None else places
        return sum(self._partitions[p].open for p in chosen if p in self._partitions)

    def position(self, place: TopicPartition) -> int | None:
        """The offset below which everything is settled, once known."""
        partition = self._partitions.get(place)
        return None if partition is None else partition.next_offset

    def oldest_seconds(self, now: float | None = None) -> float:
        """Age of the oldest open record by its timestamp; 0 when none is open.

        Args:
            now: seconds since the epoch, in place of the present.
        """
        heads = [p.fetched[0][1] for p in self._partitions.values() if p.fetched]
        moment = time.time() if now is None else now
        return max(0.0, moment - min(heads) / 1000) if heads else 0.0

    def places(self) -> tuple[TopicPartition, ...]:
        """The partitions that are ours."""
        return tuple(self._partitions)

    def _current(self, source: Offset) -> _Partition | None:
        partition = self._partitions.get(source.place)
        return partition if partition is not None and partition.epoch == source.epoch else None
