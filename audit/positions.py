"""How far the audit service has read each partition, and whether it is still the same log.

The offsets are stored beside the history in PostgreSQL, written in one transaction with it; Kafka's
own committed offsets are not used. A broker that lost what it held begins its log anew, and an
offset into the old log may by chance lie inside the new one. So reading resumes at the last record
that is recorded, and that record must have the stored checksum. If it has not, the partition is
read from its beginning (events are unique by id, so what was recorded before stays as it is).

`audit.ingest` makes one `StoredOffsets` for each session.
"""

import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from audit.merge import Connection, OffsetMove
from comms.platform.database import translate_errors
from comms.platform.kafka import Record, TopicPartition


class LogReplacedError(Exception):
    """The records at stored offsets are not those that were recorded.

    Attributes:
        partitions: where.
    """

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        names = ", ".join(f"{topic} [{partition}]" for topic, partition in sorted(partitions))
        super().__init__(f"{names}: does not hold what was read from it before")
        self.partitions = frozenset(partitions)


WITNESS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _StoredOffset:
    """A stored offset.

    Args:
        witness: checksum of the record before `next_offset`.
        unverified_since: when it was loaded; None once that record was seen.
    """

    next_offset: int
    witness: int
    unverified_since: float | None = None


class StoredOffsets:
    """The stored offsets of the partitions that are assigned now.

    Args:
        restart: partitions with another log than before. They are read from their beginning, and
            removed from this set once something was recorded from there.
    """

    def __init__(
        self,
        connection: Connection,
        restart: set[TopicPartition],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._restart = restart
        self._monotonic = monotonic
        self._offsets: dict[TopicPartition, _StoredOffset] = {}
        self._replaced: set[TopicPartition] = set()

    def load(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where to begin reading each partition that was read before.

        Raises:
            DatabaseUnavailableError: the database cannot answer now.
        """
        with translate_errors():
            rows = self._connection.execute(
                "SELECT topic, partition, next_offset, witness FROM audit.consumer_offset"
            ).fetchall()
        now = self._monotonic()
        for topic, number, next_offset, witness in rows:
            partition = topic, number
            if partition in partitions:
                since = None if partition in self._restart else now
                self._offsets[partition] = _StoredOffset(next_offset, witness, since)
        return {
            partition: stored.next_offset - 1
            for partition in partitions
            if (stored := self._offsets.get(partition)) and stored.unverified_since is not None
        }

    def forget(self, partitions: Sequence[TopicPartition]) -> None:
        """Forget partitions that are no longer assigned."""
        for partition in partitions:
            self._offsets.pop(partition, None)
            self._replaced.discard(partition)

    def unread(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that are to be recorded.

        Records that were read only to recognise the log are left out, and records of a log that is
        another one: it is read from its beginning soon.
        """
        return [
            record
            for record in records
            if not self._is_witness(record) and record.topic_partition not in self._replaced
        ]

    def moves(self, records: Sequence[Record]) -> dict[TopicPartition, OffsetMove]:
        """Return how far `records` move each partition."""
        moves = {}
        for record in records:
            stored = self._offsets.get(record.topic_partition)
            moves[record.topic_partition] = OffsetMove(
                None if stored is None else stored.next_offset,
                record.offset + 1,
                _checksum(record),
                datetime.fromtimestamp(max(record.timestamp, 0) / 1000, UTC),
            )
        return moves

    def moved(self, moves: Mapping[TopicPartition, OffsetMove]) -> None:
        """Take note that `moves` are stored."""
        for partition, move in moves.items():
            self._offsets[partition] = _StoredOffset(move.next_offset, move.witness)
            self._restart.discard(partition)

    def check_logs(self) -> None:
        """Check that the last recorded record of each partition was seen by now.

        It is called while the broker answers. Not every broker says that an offset lies beyond its
        log; some just send nothing. A broker that lost one log has lost the others too, so reading
        begins again once for all of them, after the last one had its time.

        Raises:
            LogReplacedError: records that were recorded are not there any more.
        """
        latest = self._monotonic() - WITNESS_SECONDS
        waiting = [since for stored in self._offsets.values() if (since := stored.unverified_since)]
        missing = {
            partition
            for partition, stored in self._offsets.items()
            if stored.unverified_since is not None and stored.unverified_since < latest
        }
        replaced = missing | self._replaced
        if replaced and all(since < latest for since in waiting):
            raise LogReplacedError(replaced)

    def _is_witness(self, record: Record) -> bool:
        """Return whether a record was read only to recognise the log, and compare it if so."""
        stored = self._offsets.get(record.topic_partition)
        if stored is None or stored.unverified_since is None:
            return False
        self._offsets[record.topic_partition] = replace(stored, unverified_since=None)
        if record.offset != stored.next_offset - 1:
            return False  # the record has outlived its retention, or the log was begun anew
        if _checksum(record) != stored.witness:
            self._replaced.add(record.topic_partition)
        return True


def _checksum(record: Record) -> int:
    return zlib.crc32(record.value)
