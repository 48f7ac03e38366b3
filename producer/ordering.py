"""One recipient's messages keep their order, whichever lanes their priorities put them into.

The relay asks before it publishes a batch of a lane. A message whose recipient has nothing waiting
in another lane goes into its own. Otherwise it goes into the fastest of the lanes concerned, behind
all that was accepted before it and is not claimed: an urgent one pulls along what it would pass,
and a slow one joins what it might pass. They belong to that lane from then on. Some stand in two
topics, and the ledger lets only one of the two be sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from producer.queue import Row
from producer.shards import URGENCY
from schemas.topics import of_channel
from schemas.vocabulary import Channel

_Line = tuple[str, str | None]


def in_order(rows: Sequence[Row], pending: Iterable[Row]) -> list[Row]:
    """What is to be published so that `rows` pass nothing: themselves, each preceded by what it
    would pass, with the topics they go to.

    Args:
        pending: unclaimed messages of their recipients, in the order of acceptance.
    """
    lines: dict[_Line, list[Row]] = defaultdict(list)
    for row in pending:
        lines[row.key, row.channel].append(row)
    placed: dict[tuple[_Line, str], set[int]] = defaultdict(set)
    published: list[Row] = []
    for row in rows:
        line = row.key, row.channel
        earlier = [other for other in lines.get(line, ()) if other.seq < row.seq]
        if row.is_event or all(other.lane is row.lane for other in earlier):
            published.append(row)
            continue
        topic = _fastest_topic([*earlier, row])
        there = placed[line, topic]
        there.update(other.seq for other in earlier if other.is_read and other.topic == topic)
        for one in (*(other for other in earlier if other.seq not in there), row):
            there.add(one.seq)
            published.append(replace(one, topic=topic))
    return published


def _fastest_topic(rows: Sequence[Row]) -> str:
    lane = min((row.lane for row in rows), key=URGENCY.index)
    return of_channel(Channel(str(rows[0].channel)), lane)
