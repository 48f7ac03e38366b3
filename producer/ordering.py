"""The order of one recipient's messages, across the lanes of their priorities.

`producer.relay_session` calls `keep_order` before it publishes a batch of a lane. A message whose
recipient has no unclaimed messages in another lane is published to its own lane. Otherwise it is
published to the fastest of the lanes concerned, after all unclaimed messages that were accepted
before it. An urgent message takes the earlier messages that it would overtake with it. A slow
message joins the lane of the earlier message that it might overtake. All of them belong to that
lane from then on. Some are then in two topics, and the ledger lets only one of the two be sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from producer.rows import QueueRow
from producer.shards import URGENCY
from schemas.topics import of_channel
from schemas.vocabulary import Channel

_RecipientKey = tuple[str, str | None]  # the Kafka key and the channel


def keep_order(rows: Sequence[QueueRow], pending: Iterable[QueueRow]) -> list[QueueRow]:
    """Return the rows to publish so that no message of `rows` overtakes an earlier one.

    The result has each row of `rows`, preceded by the rows that it would overtake, with the topics
    that they are to be published to.

    Args:
        pending: the unclaimed messages of the recipients, in the order of acceptance.
    """
    pending_of: dict[_RecipientKey, list[QueueRow]] = defaultdict(list)
    for row in pending:
        pending_of[row.key, row.channel].append(row)
    placed: dict[tuple[_RecipientKey, str], set[int]] = defaultdict(set)
    to_publish: list[QueueRow] = []
    for row in rows:
        recipient = row.key, row.channel
        earlier = [other for other in pending_of.get(recipient, ()) if other.seq < row.seq]
        if row.is_event or all(other.lane is row.lane for other in earlier):
            to_publish.append(row)
            continue
        topic = _fastest_topic([*earlier, row])
        in_topic = placed[recipient, topic]
        in_topic.update(
            other.seq for other in earlier if other.is_published and other.topic == topic
        )
        for member in (*(other for other in earlier if other.seq not in in_topic), row):
            in_topic.add(member.seq)
            to_publish.append(replace(member, topic=topic))
    return to_publish


def _fastest_topic(rows: Sequence[QueueRow]) -> str:
    lane = min((row.lane for row in rows), key=URGENCY.index)
    return of_channel(Channel(str(rows[0].channel)), lane)
