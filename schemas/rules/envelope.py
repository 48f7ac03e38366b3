"""The rules for what every message has, whatever its channel."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from schemas.errors import Violation
from schemas.messages import Envelope
from schemas.rules.words import word

METADATA_COUNT, METADATA_KEY_LIMIT, METADATA_VALUE_LIMIT = 50, 64, 512
TENANT_LIMIT, CUSTOMER_ID_LIMIT, WORKFLOW_LIMIT = 64, 255, 128


def envelope(message: Envelope) -> Iterator[Violation]:
    """What is wrong with it."""
    if not message.tenant:
        yield Violation("tenant", "must not be empty")
    yield from word("tenant", message.tenant or None, TENANT_LIMIT)
    yield from word("customer_id", message.customer_id, CUSTOMER_ID_LIMIT)
    yield from word("workflow", message.workflow, WORKFLOW_LIMIT)
    yield from _times(message)
    yield from _metadata(message.metadata)


def _times(message: Envelope) -> Iterator[Violation]:
    instants = (
        ("created_at", message.created_at),
        ("send_at", message.send_at),
        ("expires_at", message.expires_at),
    )
    naive = [name for name, value in instants if value is not None and not _aware(value)]
    yield from (Violation(name, "needs an offset from UTC") for name in naive)
    expires = message.expires_at
    if naive or expires is None:
        return
    if expires <= message.created_at:
        yield Violation("expires_at", "must lie in the future")
    elif message.send_at is not None and expires <= message.send_at:
        yield Violation("expires_at", "must be later than send_at")


def _aware(instant: datetime) -> bool:
    return instant.utcoffset() is not None


def _metadata(metadata: Mapping[str, str]) -> Iterator[Violation]:
    if not metadata:
        return
    if len(metadata) > METADATA_COUNT:
        yield Violation("metadata", f"must have at most {METADATA_COUNT} entries")
    if any(not 0 < len(key) <= METADATA_KEY_LIMIT for key in metadata):
        yield Violation("metadata", f"a key must have 1 to {METADATA_KEY_LIMIT} characters")
    if any(len(value) > METADATA_VALUE_LIMIT for value in metadata.values()):
        yield Violation("metadata", f"a value must have at most {METADATA_VALUE_LIMIT} characters")
    if any("\0" in text for entry in metadata.items() for text in entry):
        yield Violation("metadata", "must not contain a NUL character")
