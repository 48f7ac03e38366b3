"""What is committed is settled, and what is settled is committed, whatever comes in between.

The model is a log per partition, the position the broker keeps for the group, and for the present
assignment which of the records read are done. A record may be reported done in any order, more than
once, and long after its partition was taken away and came back.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comms.kafka import Place
from consumers.delivery import Offset
from consumers.watermark import Watermark
from tests.properties.effort import effort

PLACES: tuple[Place, ...] = (("comms.sms", 0), ("comms.sms", 1))
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
        self.watermark = Watermark()
        self.log: dict[Place, list[int]] = {place: [] for place in PLACES}
        self.kept = dict.fromkeys(PLACES, 0)  # by the broker, for the group
        self.settled: dict[Place, set[int]] = {place: set() for place in PLACES}
        self.held: dict[Place, Held] = {}
        self.ever_read: list[Offset] = []

    @rule(chosen=st.sets(places, min_size=1))
    def assigned(self, chosen: set[Place]) -> None:
        new = chosen - self.held.keys()
        self.watermark.assign(new)
        self.held |= {place: Held() for place in new}

    @rule(chosen=st.sets(places, min_size=1))
    def begins_to_leave(self, chosen: set[Place]) -> None:
        self.watermark.revoke(chosen)
        for place in chosen & self.held.keys():
            self.held[place].leaving = True

    @rule(chosen=st.sets(places, min_size=1))
    def is_gone(self, chosen: set[Place]) -> None:
        self.watermark.forget(chosen)
        for place in chosen & self.held.keys():
            del self.held[place]

    @rule(place=places, gap=st.integers(0, 2))
    def reads(self, place: Place, gap: int) -> None:
        """The next record from where the group stands; a log may lack offsets."""
        if place not in self.held:
            assert self.watermark.fetched(place, 7, 0) is None
            return
        held, log = self.held[place], self.log[place]
        begin = held.read[-1].offset + 1 if held.read else self.kept[place]
        offset = next((known for known in log if known >= begin), None)
        if offset is None:
            offset = (log[-1] + 1 if log else 0) + gap
            log.append(offset)
        source = self.watermark.fetched(place, offset, offset * SECOND)
        assert source is not None
        held.read.append(source)
        self.ever_read.append(source)

    @precondition(lambda self: bool(self.ever_read))
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        """Any record that was ever read: again, or from before a rebalance, for all we know."""
        source = data.draw(st.sampled_from(self.ever_read))
        held = self.held.get(source.place)
        is_of_now = held is not None and source in held.read
        if held is not None and is_of_now:
            if source.offset in held.abandoned:
                return  # nobody works on it any more
            held.done.add(source.offset)
            self.settled[source.place].add(source.offset)
        before = self.watermark.to_commit()
        self.watermark.done(source)
        if not is_of_now:
            assert self.watermark.to_commit() == before

    @precondition(lambda self: bool(self.ever_read))
    @rule(data=st.data())
    def is_given_up(self, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(self.ever_read))
        held = self.held.get(source.place)
        if held is not None and source in held.read:
            if source.offset in held.done | held.abandoned:
                return
            held.abandoned.add(source.offset)
        self.watermark.abandoned(source)

    @rule(is_heard=st.booleans())
    def commits(self, is_heard: bool) -> None:
        offsets = self.watermark.to_commit()
        for place, offset in offsets.items():
            assert offset > self.kept[place]
            below = {known for known in self.log[place] if known < offset}
            assert below <= self.settled[place]
        if is_heard:
            self.kept |= offsets
            self.watermark.committed(offsets)
            assert self.watermark.to_commit() == {}

    @rule()
    def everything_ends(self) -> None:
        """Progress: with nothing left open the whole of what was read is committed."""
        for held in self.held.values():
            for source in held.read:
                if source.offset not in held.abandoned:
                    self.watermark.done(source)
                    held.done.add(source.offset)
                    self.settled[source.place].add(source.offset)
        self.commits(True)
        for place, held in self.held.items():
            if held.read and not held.abandoned:
                assert self.kept[place] == held.read[-1].offset + 1

    @invariant()
    def agree(self) -> None:
        assert set(self.watermark.places()) == self.held.keys()
        for place, held in self.held.items():
            assert self.watermark.position(place) == held.safe()
            left = len(held.read) - len(held.done) - len(held.abandoned)
            assert self.watermark.open([place]) == left
        for source in self.ever_read:
            of = self.held.get(source.place)
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
        seconds = self.watermark.oldest_seconds(now=1_000_000)
        assert seconds == (1_000_000 - min(waiting) if waiting else 0)


TestPartitionsComeAndGo = PartitionsComeAndGo.TestCase
TestPartitionsComeAndGo.settings = effort(100, steps=40)
