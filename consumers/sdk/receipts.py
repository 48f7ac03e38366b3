"""Receipts: what a provider reports about a message after it accepted it, as values.

`consumers.receipts.webhooks` passes a request to the parser of its provider. A parser verifies that
the provider sent the request, and returns what it says. It looks up nothing and records nothing. A
receipt is matched by our own id, which an adapter puts into each request: into the address for
receipts (`callback_url`, `message_id_in`), or into a field that the provider returns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from schemas.events import NO_RESPONSE, ProviderResponse
from schemas.vocabulary import Reason, SuppressionReason

_OUR_ID = "m"  # in the query of a receipt's address
SIGNATURE_AGE_SECONDS = 300  # older ones may be replays
_MOST_DIGITS = 12  # of a time in seconds since 1970


class WebhookError(Exception):
    """A request to the receipt endpoint is not acceptable."""


class BadSignatureError(WebhookError):
    """It was not signed by the provider, or was signed too long ago."""


class UnreadableReceiptError(WebhookError):
    """It was signed by the provider, and its content is not understood."""


class NotSetUpError(WebhookError):
    """It cannot be verified yet: a key is not set or not loaded. The provider must repeat it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedReceipt:
    """The final status of a message for which only the provider's id is known.

    The id is in `response.provider_message_id`; `consumers.receipts.inbound` looks it up in the
    ledger.

    Args:
        delivered: whether the message was delivered.
        occurred_at: the time that the provider gives, or else the time of arrival.
        reason: why the message failed, if it did.
        response: what the provider said.
        suppress: the reason to suppress the recipient, if the provider gives one.
    """

    delivered: bool
    occurred_at: datetime
    reason: Reason = Reason.UNDELIVERED
    response: ProviderResponse = NO_RESPONSE
    suppress: SuppressionReason | None = None

    def of(self, message_id: UUID) -> "Receipt":
        """Return the receipt of our message with this id."""
        return Receipt(
            message_id=message_id,
            delivered=self.delivered,
            occurred_at=self.occurred_at,
            reason=self.reason,
            response=self.response,
            suppress=self.suppress,
        )

    def of_ours(self, message_id: UUID | None) -> "Receipt | UnmatchedReceipt":
        """Return the receipt of our message if its id is known, else this one."""
        return self if message_id is None else self.of(message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The final status of one message. The other values are as in `UnmatchedReceipt`."""

    message_id: UUID
    delivered: bool
    occurred_at: datetime
    reason: Reason = Reason.UNDELIVERED
    response: ProviderResponse = NO_RESPONSE
    suppress: SuppressionReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedToCarrier:
    """The provider passed the message on to a carrier or platform, and will not report on it again.

    Nothing says that it arrived, so the message stays `sent`.
    """

    message_id: UUID
    occurred_at: datetime
    response: ProviderResponse = NO_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Inbound:
    """A text that a person sent to one of our numbers.

    Args:
        from_: the person's number.
        to: our number.
        text: what the person wrote.
        stop: the provider itself reports an opt-out. If not, the text is examined.
    """

    from_: str
    to: str
    text: str
    stop: bool = False

    def __repr__(self) -> str:
        return "Inbound(…)"


ReceiptEvent = Receipt | UnmatchedReceipt | HandedToCarrier | Inbound


class ReceiptParser(Protocol):
    """Verifies and reads the receipts of one provider."""

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        """Return the receipts in a request, and the texts that people wrote.

        Args:
            headers: by lower-case name.
            body: the raw bytes.
            url: the public address, as the provider called it.

        Returns:
            Nothing if the request reports no final status (`queued`, `sent`).

        Raises:
            BadSignatureError: the request is not genuine. Nothing in it may be recorded.
            UnreadableReceiptError: it is genuine and is not understood.
            NotSetUpError: it cannot be verified yet.
        """


def callback_url(receipts_url: str, message_id: UUID) -> str:
    """Return the address to which a provider sends the receipts of one message.

    Args:
        receipts_url: `ProviderContext.receipts_url`.
        message_id: our id.
    """
    return f"{receipts_url}?{_OUR_ID}={message_id}"


def message_id_in(url: str) -> UUID | None:
    """Return our id in the address to which a receipt was sent; None if there is none."""
    return uuid_or_none(dict(parse_qsl(urlsplit(url).query)).get(_OUR_ID))


def check_signature_age(signed_at: str | float, *, now: datetime) -> None:
    """Reject a webhook that was signed more than `SIGNATURE_AGE_SECONDS` ago or ahead.

    Args:
        signed_at: seconds since 1970: a number, or its decimal digits as a header has them.

    Raises:
        BadSignatureError: the time is too far from `now`, or `signed_at` is not a time.
    """
    if isinstance(signed_at, str):
        is_time = signed_at.isdecimal() and signed_at.isascii() and len(signed_at) <= _MOST_DIGITS
        if not is_time:
            raise BadSignatureError("no time of signing")
        signed_at = int(signed_at)
    present = now.timestamp()
    # Written so that NaN is rejected: it is in no range.
    if not present - SIGNATURE_AGE_SECONDS <= signed_at <= present + SIGNATURE_AGE_SECONDS:
        raise BadSignatureError("signed too long ago, or in the future")


def uuid_or_none(text: str | None) -> UUID | None:
    """Return a message's id from a field of a receipt; None if it is not an id."""
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


def moment(value: object, *, otherwise: datetime) -> datetime:
    """Return a time, from ISO 8601 with an offset or seconds since 1970.

    Args:
        value: a field of a receipt.
        otherwise: the time of arrival, returned if the field does not have a time.
    """
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time if time.tzinfo is not None else otherwise
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return otherwise
