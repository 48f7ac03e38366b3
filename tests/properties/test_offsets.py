"""What is committed is settled, and what is settled is committed, whatever comes in between.

The model is a log per partition, the position the broker keeps for the group, and for the present
assignment which of the records read are done. A record may be reported done in any order, more than
once, and long after its partition was taken away and came back.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comms.platform.kafka import TopicPartition
from consumers.ledger.delivery import Offset
from consumers.pipeline.offsets import OffsetTracker
from tests.properties.effort import effort

PLACES: tuple[TopicPartition, ...] = (("comms.sms", 0), ("comms.sms", 1))
SECOND = 1000  # in a record's timestamp

places = st.sampled_from(PLACES)


@dataclass
class Held:
    """A partition while it is ours: what was read of it, and what is known of that."""

    read: list[Offset] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    abandoned: set[int] = field(default_factory=set)
    leaving: bool = False

    def safe(self) -> int | None:
        """The next offset after the records that are done with none before them that is not."""
        found = None
        for source in self.read:
            if source.offset not in self.done:
                break
            found = source.offset + 1
        return found


class PartitionsComeAndGo(RuleBasedStateMachine):
    """One process's watermark, while partitions come and go and calls end in any order."""

    @initialize()
    def begin(self) -> None:
        self.watermark = OffsetTracker()
        self.log: dict[TopicPartition, list[int]] = {place: [] for place in PLACES}
        self.kept = dict.fromkeys(PLACES, 0)  # by the broker, for the group
        self.settled: dict[TopicPartition, set[int]] = {place: set() for place in PLACES}
        self.held: dict[TopicPartition, Held] = {}
        self.ever_read: list[Offset] = []
        for place in PLACES:
            self._comes(place)

    @rule(place=places, change=st.sampled_from(["begins to leave", "is gone", "comes"]))
    def rebalances(self, place: TopicPartition, change: str) -> None:
        match change:
            case "begins to leave":
                self.watermark.revoke([place])
                if place in self.held:
                    self.held[place].leaving = True
            case "is gone":
                self.watermark.forget([place])
                self.held.pop(place, None)
            case _ if place not in self.held:
                self._comes(place)

    def _comes(self, place: TopicPartition) -> None:
        self.watermark.assign([place])
        self.held[place] = Held()

    @rule(
        place=places,
        gaps=st.lists(st.integers(0, 2), max_size=5),
        newest=st.lists(st.integers(0, 15), max_size=4),
    )
    def some_are_read_and_some_end(
        self, place: TopicPartition, gaps: list[int], newest: list[int]
    ) -> None:
        """Read are the next from where the group stands; a log may lack offsets. Those that end are
        any that were ever read: again, or from before a rebalance, for all we know."""
        for gap in gaps:
            if place in self.held:
                self._read(place, gap)
            else:
                assert self.watermark.track(place, 7, 0) is None
        for number in newest if self.ever_read else ():
            self._ends(self.ever_read[-1 - number % len(self.ever_read)])

    def _read(self, place: TopicPartition, gap: int) -> None:
        held, log = self.held[place], self.log[place]
        begin = held.read[-1].offset + 1 if held.read else self.kept[place]
        offset = next((known for known in log if known >= begin), None)
        if offset is None:
            offset = (log[-1] + 1 if log else 0) + gap
            log.append(offset)
        source = self.watermark.track(place, offset, offset * SECOND)
        assert source is not None
        held.read.append(source)
        self.ever_read.append(source)

    def _ends(self, source: Offset) -> None:
        held = self.held.get(source.partition)
        if held is None or source not in held.read:
            before = self.watermark.offsets_to_commit()
            self.watermark.mark_done(source)
            assert self.watermark.offsets_to_commit() == before
        elif source.offset not in held.abandoned:  # nobody works on those any more
            self.watermark.mark_done(source)
            held.done.add(source.offset)
            self.settled[source.partition].add(source.offset)

    @precondition(lambda self: bool(self.ever_read))
    @rule(newest=st.integers(0, 15))
    def is_given_up(self, newest: int) -> None:
        source = self.ever_read[-1 - newest % len(self.ever_read)]
        held = self.held.get(source.partition)
        if held is None or source not in held.read:
            self.watermark.mark_abandoned(source)
        elif source.offset not in held.done | held.abandoned:
            self.watermark.mark_abandoned(source)
            held.abandoned.add(source.offset)

    @rule(is_heard=st.booleans())
    def commits(self, is_heard: bool) -> None:
        offsets = self.watermark.offsets_to_commit()
        for place, offset in offsets.items():
            assert offset > self.kept[place]
            below = {known for known in self.log[place] if known < offset}
            assert below <= self.settled[place]
        if is_heard:
            self.kept |= offsets
            self.watermark.mark_committed(offsets)
            assert self.watermark.offsets_to_commit() == {}

    @rule()
    def everything_ends(self) -> None:
        """Progress: with nothing left open the whole of what was read is committed."""
        for held in self.held.values():
            for source in held.read:
                self._ends(source)
        self.commits(True)
        for place, held in self.held.items():
            if held.read and not held.abandoned:
                assert self.kept[place] == held.read[-1].offset + 1

    @invariant()
    def agree(self) -> None:
        assert set(self.watermark.partitions()) == self.held.keys()
        for place, offset in self.watermark.offsets_to_commit().items():
            assert offset == self.held[place].safe()
        for place, held in self.held.items():
            assert self.watermark.position(place) == held.safe()
            left = len(held.read) - len(held.done) - len(held.abandoned)
            assert self.watermark.count_open([place]) == left
        for source in self.ever_read:
            of = self.held.get(source.partition)
            expected = of is not None and not of.leaving and source in of.read
            assert self.watermark.is_current(source) == expected

    @invariant()
    def the_oldest_that_is_not_done_is_known(self) -> None:
        waiting = [
            source.offset
            for held in self.held.values()
            for source in held.read
            if source.offset not in held.done
        ]
        seconds = self.watermark.oldest_age(now=1_000_000)
        assert seconds == (1_000_000 - min(waiting) if waiting else 0)


TestPartitionsComeAndGo = PartitionsComeAndGo.TestCase
TestPartitionsComeAndGo.settings = effort(100, steps=40)
