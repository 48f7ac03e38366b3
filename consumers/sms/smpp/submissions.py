"""A message of ours as an SMSC wants it: addresses, parts, how long it is worth delivering.

The adapter asks for the submissions of a message; a long text has several. By default each part
carries a user data header, which every SMSC passes on and some take nothing else; `payload` hands
a long text over whole, and one id comes back.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from consumers.sdk.provider import Attempt
from consumers.sms.smpp.pdu import Address, Submission
from consumers.sms.smpp.text import encode
from schemas.messages import SmsMessage

_LONGEST_VALIDITY = timedelta(days=28)  # what a relative time says without months

INTERNATIONAL, NETWORK_SPECIFIC, ALPHANUMERIC = 1, 3, 5  # types of numbers (TON)
NO_PLAN, ISDN = 0, 1  # plans (NPI)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Style:
    """How this SMSC wants its texts.

    Args:
        sender: of messages that name none.
        source_ton, source_npi: in place of what the sender looks like.
        ucs2_only: its default alphabet is not GSM-7.
        payload: a long text goes whole, as `message_payload`.
    """

    sender: str
    source_ton: int | None = None
    source_npi: int | None = None
    dest_ton: int = INTERNATIONAL
    dest_npi: int = ISDN
    service_type: str = ""
    ucs2_only: bool = False
    payload: bool = False

    def submissions(
        self, message: SmsMessage, attempt: Attempt, *, now: datetime
    ) -> list[Submission]:
        """One for each part, in their order.

        Raises:
            TooLongError: there are more than can be numbered.
        """
        encoded = encode(
            message.body,
            # The same in every repetition: a handset that has some parts takes the missing ones.
            reference=UUID(attempt.idempotency_key).int & 0xFF,
            ucs2_only=self.ucs2_only,
            whole=self.payload,
        )
        source = self._source(message.sender or self.sender)
        number = message.to.removeprefix("+")
        validity = _validity(message.expires_at, now)
        return [
            Submission(
                source=source,
                destination=Address(value=number, ton=self.dest_ton, npi=self.dest_npi),
                content=part,
                data_coding=encoded.data_coding,
                header=encoded.header,
                service_type=self.service_type,
                validity_period=validity,
            )
            for part in encoded.parts
        ]

    def _source(self, sender: str) -> Address:
        if sender.startswith("+"):
            ton, npi = INTERNATIONAL, ISDN
        elif sender.isdecimal():
            ton, npi = NETWORK_SPECIFIC, NO_PLAN
        else:
            ton, npi = ALPHANUMERIC, NO_PLAN
        return Address(
            value=sender.removeprefix("+"),
            ton=ton if self.source_ton is None else self.source_ton,
            npi=npi if self.source_npi is None else self.source_npi,
        )


def _validity(expires_at: datetime | None, now: datetime) -> str:
    """The time that is left, in the relative form (7.1.1.2), which no clock of theirs can shift."""
    if expires_at is None or expires_at - now > _LONGEST_VALIDITY:
        return ""
    minutes, seconds = divmod(max(1, int((expires_at - now).total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"0000{days:02}{hours:02}{minutes:02}{seconds:02}000R"
