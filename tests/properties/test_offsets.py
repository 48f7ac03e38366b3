"""The offset tracker commits what is settled, and everything that is settled, through rebalances.

The model is a log per partition, the position that the broker keeps for the group, and for the
current assignment the records that are done. A record may be reported done in any order, more than
once, and long after its partition was revoked and came back.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comms.platform.kafka import TopicPartition
from consumers.ledger.delivery import Offset
from consumers.pipeline.offsets import OffsetTracker
from tests.properties.effort import effort

PARTITIONS: tuple[TopicPartition, ...] = (("comms.sms", 0), ("comms.sms", 1))
SECOND = 1000  # in a record's timestamp

partitions = st.sampled_from(PARTITIONS)


@dataclass
class Assignment:
    """The model of an assigned partition: its records that were fetched, done and abandoned."""

    fetched: list[Offset] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    abandoned: set[int] = field(default_factory=set)
    is_leaving: bool = False

    def committable(self) -> int | None:
        """The offset below which every fetched record is done; None if the first is not."""
        next_offset = None
        for source in self.fetched:
            if source.offset not in self.done:
                break
            next_offset = source.offset + 1
        return next_offset


class OffsetTrackerMachine(RuleBasedStateMachine):
    """One process's tracker, while partitions come and go and calls end in any order."""

    @initialize()
    def start(self) -> None:
        self.tracker = OffsetTracker()
        self.log: dict[TopicPartition, list[int]] = {partition: [] for partition in PARTITIONS}
        self.committed = dict.fromkeys(PARTITIONS, 0)  # by the broker, for the group
        self.settled: dict[TopicPartition, set[int]] = {
            partition: set() for partition in PARTITIONS
        }
        self.assignments: dict[TopicPartition, Assignment] = {}
        self.all_fetched: list[Offset] = []
        for partition in PARTITIONS:
            self._assign(partition)

    @rule(partition=partitions, change=st.sampled_from(["revoke", "forget", "assign"]))
    def rebalance(self, partition: TopicPartition, change: str) -> None:
        match change:
            case "revoke":
                self.tracker.revoke([partition])
                if partition in self.assignments:
                    self.assignments[partition].is_leaving = True
            case "forget":
                self.tracker.forget([partition])
                self.assignments.pop(partition, None)
            case _ if partition not in self.assignments:
                self._assign(partition)

    def _assign(self, partition: TopicPartition) -> None:
        self.tracker.assign([partition])
        self.assignments[partition] = Assignment()

    @rule(
        partition=partitions,
        gaps=st.lists(st.integers(0, 2), max_size=5),
        newest=st.lists(st.integers(0, 15), max_size=4),
    )
    def fetch_and_settle(
        self, partition: TopicPartition, gaps: list[int], newest: list[int]
    ) -> None:
        """Fetch the next records, and settle any that were ever fetched.

        A log may lack offsets. A record may be settled again, or after a rebalance.
        """
        for gap in gaps:
            if partition in self.assignments:
                self._fetch(partition, gap)
            else:
                assert self.tracker.track(partition, 7, 0) is None
        for number in newest if self.all_fetched else ():
            self._settle(self.all_fetched[-1 - number % len(self.all_fetched)])

    def _fetch(self, partition: TopicPartition, gap: int) -> None:
        assignment, log = self.assignments[partition], self.log[partition]
        begin = (
            assignment.fetched[-1].offset + 1 if assignment.fetched else self.committed[partition]
        )
        offset = next((logged for logged in log if logged >= begin), None)
        if offset is None:
            offset = (log[-1] + 1 if log else 0) + gap
            log.append(offset)
        source = self.tracker.track(partition, offset, offset * SECOND)
        assert source is not None
        assignment.fetched.append(source)
        self.all_fetched.append(source)

    def _settle(self, source: Offset) -> None:
        assignment = self.assignments.get(source.partition)
        if assignment is None or source not in assignment.fetched:
            before = self.tracker.offsets_to_commit()
            self.tracker.mark_done(source)
            assert self.tracker.offsets_to_commit() == before
        elif source.offset not in assignment.abandoned:  # no process works on those any more
            self.tracker.mark_done(source)
            assignment.done.add(source.offset)
            self.settled[source.partition].add(source.offset)

    @precondition(lambda self: bool(self.all_fetched))
    @rule(newest=st.integers(0, 15))
    def abandon(self, newest: int) -> None:
        source = self.all_fetched[-1 - newest % len(self.all_fetched)]
        assignment = self.assignments.get(source.partition)
        if assignment is None or source not in assignment.fetched:
            self.tracker.mark_abandoned(source)
        elif source.offset not in assignment.done | assignment.abandoned:
            self.tracker.mark_abandoned(source)
            assignment.abandoned.add(source.offset)

    @rule(is_acknowledged=st.booleans())
    def commit(self, is_acknowledged: bool) -> None:
        offsets = self.tracker.offsets_to_commit()
        for partition, offset in offsets.items():
            assert offset > self.committed[partition]
            below = {logged for logged in self.log[partition] if logged < offset}
            assert below <= self.settled[partition]
        if is_acknowledged:
            self.committed |= offsets
            self.tracker.mark_committed(offsets)
            assert self.tracker.offsets_to_commit() == {}

    @rule()
    def settle_everything(self) -> None:
        """Progress: when nothing is left open, everything that was fetched is committed."""
        for assignment in self.assignments.values():
            for source in assignment.fetched:
                self._settle(source)
        self.commit(True)
        for partition, assignment in self.assignments.items():
            if assignment.fetched and not assignment.abandoned:
                assert self.committed[partition] == assignment.fetched[-1].offset + 1

    @invariant()
    def tracker_agrees_with_model(self) -> None:
        assert set(self.tracker.partitions()) == self.assignments.keys()
        for partition, offset in self.tracker.offsets_to_commit().items():
            assert offset == self.assignments[partition].committable()
        for partition, assignment in self.assignments.items():
            assert self.tracker.position(partition) == assignment.committable()
            expected_open = (
                len(assignment.fetched) - len(assignment.done) - len(assignment.abandoned)
            )
            assert self.tracker.count_open([partition]) == expected_open
        for source in self.all_fetched:
            current = self.assignments.get(source.partition)
            expected = current is not None and not current.is_leaving and source in current.fetched
            assert self.tracker.is_current(source) == expected

    @invariant()
    def oldest_open_record_is_known(self) -> None:
        open_offsets = [
            source.offset
            for assignment in self.assignments.values()
            for source in assignment.fetched
            if source.offset not in assignment.done
        ]
        seconds = self.tracker.oldest_age(now=1_000_000)
        assert seconds == (1_000_000 - min(open_offsets) if open_offsets else 0)


TestOffsetTrackerMachine = OffsetTrackerMachine.TestCase
TestOffsetTrackerMachine.settings = effort(100, steps=40)
