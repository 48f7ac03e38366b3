"""Whether the topics still are the logs that were published to.

A cluster that lost what it held (the embedded broker at its restart, a topic deleted and made
again) gives its topics new ids. The relay asks before it publishes: what was published to the
former logs and is not claimed has to be published again first, or a recipient's later message
would pass an earlier one.
"""

from comms.platform.kafka import Broker
from schemas.topics import STATUS, of_channel
from schemas.vocabulary import Channel, Priority

_TOPICS = (STATUS, *(of_channel(channel, lane) for channel in Channel for lane in Priority))


class TopicIdentity:
    """The topics that a relay publishes to, by what makes each of them that log."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def identity(self) -> str:
        """The same as long as the logs are the same.

        Raises:
            KafkaUnavailableError: the cluster does not say, or a topic is missing.
        """
        found = self._broker.topic_ids(_TOPICS)
        return " ".join(found[topic] for topic in _TOPICS)
