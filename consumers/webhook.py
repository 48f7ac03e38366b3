"""The receipt seam: a provider's later word, from raw bytes to values.

`consumers.receipts` hands a request to the parser of the provider it came for. A parser proves that
the provider sent it and says what it means; it looks nothing up and records nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from consumers.suppression import SuppressionReason
from schemas.events import SILENCE, ProviderWords
from schemas.vocabulary import Reason

SIGNATURE_AGE_SECONDS = 300  # older ones may be replays


class WebhookError(Exception):
    """A request to the receipt endpoint is not acceptable."""


class BadSignatureError(WebhookError):
    """It was not signed by the provider, or too long ago."""


class UnreadableReceiptError(WebhookError):
    """It was, and what it says is not understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a provider says became of one message.

    Args:
        reason: why it failed, where it did.
        suppress: why its recipient must not be reached again, where the provider says so.
        occurred_at: when, in the provider's words; the time of arrival where it says nothing.
    """

    message_id: UUID
    delivered: bool
    occurred_at: datetime
    reason: Reason = Reason.UNDELIVERED
    words: ProviderWords = SILENCE
    suppress: SuppressionReason | None = None


class ReceiptParser(Protocol):
    """One provider's way of signing and writing receipts."""

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> list[Receipt]:
        """The receipts in a request; none where it speaks of nothing final.

        Args:
            headers: by lower-case name; url: the public one, as the provider knows it.

        Raises:
            BadSignatureError, UnreadableReceiptError: nothing in it may be recorded.
        """
