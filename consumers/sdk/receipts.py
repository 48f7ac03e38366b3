"""The receipt seam: a provider's later word, from raw bytes to values.

`consumers.receipts.webhooks` hands a request to the parser of the provider it came for. A parser
proves that the provider sent it and says what it means; it looks nothing up and records nothing.
What a receipt speaks of is found by our own id, which an adapter puts into each request: into the
address for receipts (`callback_url`, `message_id_in`) or a field that the provider gives back.
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
    """It was not signed by the provider, or too long ago."""


class UnreadableReceiptError(WebhookError):
    """It was, and what it says is not understood."""


class NotSetUpError(WebhookError):
    """Whether it was cannot be told yet: what proves it is not set or not here; say it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedReceipt:
    """What a provider says became of a message that it names by its own id alone, which stands in
    `response.provider_message_id`; `consumers.receipts.inbound` looks for it in the ledger.

    Args:
        reason: why it failed, where it did.
        suppress: why its recipient must not be reached again, where the provider says so.
        occurred_at: when, in the provider's words; the time of arrival where it says nothing.
    """

    delivered: bool
    occurred_at: datetime
    reason: Reason = Reason.UNDELIVERED
    response: ProviderResponse = NO_RESPONSE
    suppress: SuppressionReason | None = None

    def of(self, message_id: UUID) -> "Receipt":
        """The receipt of our message with this id."""
        return Receipt(
            message_id=message_id,
            delivered=self.delivered,
            occurred_at=self.occurred_at,
            reason=self.reason,
            response=self.response,
            suppress=self.suppress,
        )

    def of_ours(self, message_id: UUID | None) -> "Receipt | UnmatchedReceipt":
        """The same where our id is known, else this."""
        return self if message_id is None else self.of(message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a provider says became of one message; the rest as in `UnmatchedReceipt`."""

    message_id: UUID
    delivered: bool
    occurred_at: datetime
    reason: Reason = Reason.UNDELIVERED
    response: ProviderResponse = NO_RESPONSE
    suppress: SuppressionReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedToCarrier:
    """A provider has given a message to whoever reaches the person, and will say no more of it:
    its last word, and none of arrival, so that the message stays `sent`."""

    message_id: UUID
    occurred_at: datetime
    response: ProviderResponse = NO_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Inbound:
    """What a person wrote to one of our numbers.

    Args:
        from_: the person's number; to: ours.
        stop: the provider itself says that the person wants no more; else the text is looked at.
    """

    from_: str
    to: str
    text: str
    stop: bool = False

    def __repr__(self) -> str:
        return "Inbound(…)"


ReceiptEvent = Receipt | UnmatchedReceipt | HandedToCarrier | Inbound


class ReceiptParser(Protocol):
    """One provider's way of signing and writing receipts."""

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        """The receipts in a request, and what people wrote; none where it speaks of nothing final
        (`queued`, `sent`).

        Args:
            headers: by lower-case name; url: the public one, as the provider knows it.

        Raises:
            BadSignatureError, UnreadableReceiptError: nothing in it may be recorded.
        """


def callback_url(receipts_url: str, message_id: UUID) -> str:
    """Where a provider shall send the receipts of one message.

    Args:
        receipts_url: of `consumers.sdk.provider_type.ProviderContext`.
    """
    return f"{receipts_url}?{_OUR_ID}={message_id}"


def message_id_in(url: str) -> UUID | None:
    """Our id out of the address a receipt was sent to; None where it has none."""
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
    """A message's id out of a provider's words, if it is one."""
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


def moment(value: object, *, otherwise: datetime) -> datetime:
    """When something was, from ISO 8601 with an offset or seconds since 1970; `otherwise` (the time
    of its arrival) where that is not said."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else otherwise
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return otherwise
