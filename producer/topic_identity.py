"""The identity of the topics: whether they are still the ones that messages were published to.

A cluster that loses its data gives its topics new ids: the embedded broker when it restarts, or any
broker when a topic is deleted and created again. The relay compares the identity before it
publishes. Messages that were published to the former topics and are not claimed must be published
again first. Otherwise a later message of a recipient would overtake an earlier one.
"""

from comms.platform.kafka import Broker
from schemas.topics import STATUS, of_channel
from schemas.vocabulary import Channel, Priority

_TOPICS = (STATUS, *(of_channel(channel, lane) for channel in Channel for lane in Priority))


class TopicIdentity:
    """Reads the ids of the topics that a relay publishes to."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def read_log_id(self) -> str:
        """Return the ids of all topics as one string, which changes when a topic is replaced.

        Raises:
            KafkaUnavailableError: the cluster does not respond, or a topic is missing.
        """
        ids = self._broker.read_topic_ids(_TOPICS)
        return " ".join(ids[topic] for topic in _TOPICS)
