"""From a record to a delivery, or to the dead letters.

The poll thread hands every record to an `Decoder`. What decodes and keeps the rules of its channel
becomes a `Delivery`. What does not goes to `comms.dead-letters` with its reason and origin and,
where the message's id could be read, ends as a `failed` event; it blocks nothing. A burst of bad
records is another matter: it stops the service, because it means that something is wrong here.
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

IN_A_ROW = 500  # bad records, with no good one between, that stop the service


class TooManyBadRecordsError(ServiceError):
    """The topic holds so many bad records that something else must be wrong."""


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that no provider may see.

    Args:
        reason: `undecodable`, `invalid_content` or `invalid_recipient`; detail: what is wrong.
        event: what to announce, where the message's id could be read.
    """

    reason: Reason
    detail: str
    event: StatusEvent | None


class Decoder:
    """Decodes and checks one channel's records.

    Args:
        policy: what the installation allows of what the rules would.
    """

    def __init__(
        self, channel: Channel, codec: Codec, policy: Policy = ANYTHING, clock: Clock = utc_now
    ) -> None:
        self._channel, self._codec, self._policy, self._clock = channel, codec, policy, clock
        self._bad_in_a_row = 0

    def read(
        self, value: bytes, source: DeliverySource, *, replayed: bool = False
    ) -> Delivery | RejectedRecord:
        """The delivery in `value`, or what is wrong with it.

        Args:
            replayed: it is a dead letter that a person put back.

        Raises:
            TooManyBadRecordsError: there were `IN_A_ROW` bad ones without a good one between.
        """
        found = self._read(value, source)
        if isinstance(found, Delivery):
            self._bad_in_a_row = 0
            return replace(found, replayed=True) if replayed else found
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= IN_A_ROW:
            raise TooManyBadRecordsError(
                f"{IN_A_ROW} records in a row could not be processed; the last: {found.detail}"
            )
        return found

    def _read(self, value: bytes, source: DeliverySource) -> Delivery | RejectedRecord:
        try:
            message = self._decode(value)
        except UndecodableError as error:
            return RejectedRecord(Reason.UNDECODABLE, str(error), None)
        except InvalidRecordError as error:
            return RejectedRecord(Reason.UNDECODABLE, str(error), self._nameless(error))
        found = violations(message, self._policy)
        if not found:
            return Delivery(message, value, source)
        detail = "; ".join(map(str, found))
        about_recipient = all(violation.field.startswith("to") for violation in found)
        reason = Reason.INVALID_RECIPIENT if about_recipient else Reason.INVALID_CONTENT
        response = ProviderResponse(detail=detail)
        event = events.failed(message, reason=reason, at=self._clock(), response=response)
        return RejectedRecord(reason, detail, event)

    def _decode(self, value: bytes) -> Message:
        kind = RECORD_OF[self._channel]
        if kind is SmsMessage:
            return self._codec.decode(value, SmsMessage)
        if kind is EmailMessage:
            return self._codec.decode(value, EmailMessage)
        if kind is PushMessage:
            return self._codec.decode(value, PushMessage)
        return self._codec.decode(value, VoiceMessage)

    def _nameless(self, error: InvalidRecordError) -> StatusEvent | None:
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
    producer: EventProducer, record: Record, bad: RejectedRecord, channel: Channel
) -> None:
    """Put a record among the dead letters and wait until the broker has it.

    Raises:
        KafkaUnavailableError: it is not there; the record must be read again.
    """
    dead_letters.send_to_dead_letters(
        producer, record, channel=channel, reason=bad.reason, detail=bad.detail
    )
