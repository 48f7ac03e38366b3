"""How far the audit service has read each partition, and whether it is still the same log.

The offsets live beside the history in PostgreSQL, written in one transaction with it; Kafka's own
committed offsets are not used. A broker that lost what it held begins its log anew, and an offset
into the old one may by chance lie inside the new one. So reading resumes at the last record already
recorded, and its checksum must be the one on file; if not, the partition is read from its beginning
(events are unique by id, so what was recorded before stays as it is).
"""

import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from audit.merge import Connection, Step
from comms.platform.database import translated
from comms.platform.kafka import Record, TopicPartition


class LogReplacedError(Exception):
    """The records at stored offsets are not those that were recorded; `places` names where."""

    def __init__(self, places: Collection[TopicPartition]) -> None:
        named = ", ".join(f"{topic} [{partition}]" for topic, partition in sorted(places))
        super().__init__(f"{named}: does not hold what was read from it before")
        self.places = frozenset(places)


WITNESS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Known:
    """A stored offset; `doubtful_since` it was loaded and until the record before it is seen."""

    next_offset: int
    witness: int
    doubtful_since: float | None = None


class Positions:
    """The stored offsets of the partitions that are ours now.

    Args:
        restart: partitions whose log was found to be another one: read from their beginning, and
            taken off this list once something was recorded from there.
    """

    def __init__(
        self,
        connection: Connection,
        restart: set[TopicPartition],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._restart, self._monotonic = connection, restart, monotonic
        self._known: dict[TopicPartition, _Known] = {}
        self._replaced: set[TopicPartition] = set()

    def load(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where to begin reading each partition that was read before.

        Raises:
            DatabaseUnavailableError: it cannot be told now.
        """
        with translated():
            rows = self._connection.execute(
                "SELECT topic, partition, next_offset, witness FROM audit.consumer_offset"
            ).fetchall()
        now = self._monotonic()
        for topic, partition, next_offset, witness in rows:
            place = topic, partition
            if place in places:
                since = None if place in self._restart else now
                self._known[place] = _Known(next_offset, witness, since)
        return {
            place: known.next_offset - 1
            for place in places
            if (known := self._known.get(place)) and known.doubtful_since is not None
        }

    def forget(self, places: Sequence[TopicPartition]) -> None:
        """The partitions are somebody else's now."""
        for place in places:
            self._known.pop(place, None)
            self._replaced.discard(place)

    def unread(self, records: Sequence[Record]) -> list[Record]:
        """`records` without those read only to recognise the log, and those of a log that is
        another one: that is read from its beginning soon."""
        return [
            record
            for record in records
            if not self._is_witness(record) and record.place not in self._replaced
        ]

    def steps(self, records: Sequence[Record]) -> dict[TopicPartition, Step]:
        """How far `records` move each partition."""
        steps = {}
        for record in records:
            known = self._known.get(record.place)
            steps[record.place] = Step(
                None if known is None else known.next_offset,
                record.offset + 1,
                _checksum(record),
                datetime.fromtimestamp(max(record.timestamp, 0) / 1000, UTC),
            )
        return steps

    def moved(self, steps: Mapping[TopicPartition, Step]) -> None:
        """The steps are stored."""
        for place, step in steps.items():
            self._known[place] = _Known(step.next_offset, step.witness)
            self._restart.discard(place)

    def expect_witnesses(self) -> None:
        """Called while the broker answers: what was recorded must have been seen by now.

        Not every broker says that an offset lies beyond its log; some just send nothing. A broker
        that lost one log has lost the others too, so the last doubt is waited for before reading
        begins again: once for all of them.

        Raises:
            LogReplacedError: records that were recorded are not there any more.
        """
        latest = self._monotonic() - WITNESS_SECONDS
        doubts = [since for known in self._known.values() if (since := known.doubtful_since)]
        missing = {
            place
            for place, known in self._known.items()
            if known.doubtful_since is not None and known.doubtful_since < latest
        }
        found = missing | self._replaced
        if found and all(since < latest for since in doubts):
            raise LogReplacedError(found)

    def _is_witness(self, record: Record) -> bool:
        known = self._known.get(record.place)
        if known is None or known.doubtful_since is None:
            return False
        self._known[record.place] = replace(known, doubtful_since=None)
        if record.offset != known.next_offset - 1:
            return False  # the record has outlived its retention, or the log was begun anew
        if _checksum(record) != known.witness:
            self._replaced.add(record.place)
        return True


def _checksum(record: Record) -> int:
    return zlib.crc32(record.value)
