"""Decodes records into deliveries, and sends the others to the dead letters.

A poller passes every record to its `Decoder`, and the deferred feed every row. A record that
decodes and keeps the rules of its channel becomes a `Delivery`. Any other goes to
`comms.dead-letters` with its reason and origin and, if the message's id can be read, ends with a
`failed` event. It blocks nothing. A burst of bad records stops the service, because the fault is
then more likely here.
"""

from dataclasses import dataclass, replace

from comms.platform import dead_letters
from comms.platform.clock import Clock, utc_now
from comms.platform.errors import ServiceError
from comms.platform.kafka import EventProducer, Record
from consumers.ledger.delivery import Delivery, DeliverySource
from schemas import events
from schemas.codec import Codec
from schemas.errors import InvalidRecordError, UndecodableError
from schemas.events import ProviderResponse, StatusEvent
from schemas.messages import RECORD_OF, EmailMessage, Message, PushMessage, SmsMessage, VoiceMessage
from schemas.rules import ANYTHING, Policy, violations
from schemas.vocabulary import Channel, Reason

MAX_BAD_IN_A_ROW = 500  # bad records, with no good one between them, that stop the service


class TooManyBadRecordsError(ServiceError):
    """The topic has so many bad records that something else must be wrong."""


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that cannot be delivered.

    Args:
        reason: `undecodable`, `invalid_content` or `invalid_recipient`.
        detail: what is wrong with it.
        event: to publish, if the message's id could be read.
    """

    reason: Reason
    detail: str
    event: StatusEvent | None


class Decoder:
    """Decodes and checks the records of one channel.

    Args:
        policy: what this installation allows of what the rules allow.
    """

    def __init__(
        self, channel: Channel, codec: Codec, policy: Policy = ANYTHING, clock: Clock = utc_now
    ) -> None:
        self._channel = channel
        self._codec = codec
        self._policy = policy
        self._clock = clock
        self._bad_in_a_row = 0

    def read(
        self, value: bytes, source: DeliverySource, *, replayed: bool = False
    ) -> Delivery | RejectedRecord:
        """Decode a record.

        Args:
            replayed: it is a dead letter that an operator put back.

        Returns:
            The delivery, or what is wrong with the record.

        Raises:
            TooManyBadRecordsError: this is the last of `MAX_BAD_IN_A_ROW` bad records in a row.
        """
        decoded = self._read(value, source)
        if isinstance(decoded, Delivery):
            self._bad_in_a_row = 0
            return replace(decoded, replayed=True) if replayed else decoded
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MAX_BAD_IN_A_ROW:
            raise TooManyBadRecordsError(
                f"{MAX_BAD_IN_A_ROW} records in a row could not be processed; "
                f"the last: {decoded.detail}"
            )
        return decoded

    def _read(self, value: bytes, source: DeliverySource) -> Delivery | RejectedRecord:
        try:
            message = self._decode(value)
        except UndecodableError as error:
            return RejectedRecord(Reason.UNDECODABLE, str(error), None)
        except InvalidRecordError as error:
            return RejectedRecord(Reason.UNDECODABLE, str(error), self._build_event(error))
        broken_rules = violations(message, self._policy)
        if not broken_rules:
            return Delivery(message, value, source)
        detail = "; ".join(map(str, broken_rules))
        is_recipient_wrong = all(violation.field.startswith("to") for violation in broken_rules)
        reason = Reason.INVALID_RECIPIENT if is_recipient_wrong else Reason.INVALID_CONTENT
        response = ProviderResponse(detail=detail)
        event = events.failed(message, reason=reason, at=self._clock(), response=response)
        return RejectedRecord(reason, detail, event)

    def _decode(self, value: bytes) -> Message:
        record_type = RECORD_OF[self._channel]
        if record_type is SmsMessage:
            return self._codec.decode(value, SmsMessage)
        if record_type is EmailMessage:
            return self._codec.decode(value, EmailMessage)
        if record_type is PushMessage:
            return self._codec.decode(value, PushMessage)
        return self._codec.decode(value, VoiceMessage)

    def _build_event(self, error: InvalidRecordError) -> StatusEvent | None:
        """Build the event of a record of which at least the message's id could be read."""
        if error.message_id is None:
            return None
        return events.undecodable(
            message_id=error.message_id,
            tenant=error.tenant,
            channel=self._channel,
            detail=str(error),
            at=self._clock(),
        )


def send_to_dead_letters(
    producer: EventProducer, record: Record, rejected: RejectedRecord, channel: Channel
) -> None:
    """Send a record to the dead letters, and wait until the broker has it.

    Raises:
        KafkaUnavailableError: the broker does not have it; the call must be repeated.
    """
    dead_letters.send_to_dead_letters(
        producer, record, channel=channel, reason=rejected.reason, detail=rejected.detail
    )
