"""The rules for the fields that every message has, whatever its channel.

`schemas.rules.violations` calls `check_envelope` for each message, before the rules of its channel.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from schemas.errors import Violation
from schemas.messages import Envelope
from schemas.rules.checks import check_name

METADATA_COUNT, METADATA_KEY_LIMIT, METADATA_VALUE_LIMIT = 50, 64, 512
TENANT_LIMIT, CUSTOMER_ID_LIMIT, WORKFLOW_LIMIT = 64, 255, 128


def check_envelope(message: Envelope) -> Iterator[Violation]:
    """Check the common fields of a message."""
    if not message.tenant:
        yield Violation("tenant", "must not be empty")
    yield from check_name("tenant", message.tenant or None, TENANT_LIMIT)
    yield from check_name("customer_id", message.customer_id, CUSTOMER_ID_LIMIT)
    yield from check_name("workflow", message.workflow, WORKFLOW_LIMIT)
    yield from _check_times(message)
    yield from _check_metadata(message.metadata)


def _check_times(message: Envelope) -> Iterator[Violation]:
    times = (
        ("created_at", message.created_at),
        ("send_at", message.send_at),
        ("expires_at", message.expires_at),
    )
    naive = [name for name, value in times if value is not None and not _has_offset(value)]
    yield from (Violation(name, "needs an offset from UTC") for name in naive)
    expires = message.expires_at
    if naive or expires is None:
        return
    if expires <= message.created_at:
        yield Violation("expires_at", "must be in the future")
    elif message.send_at is not None and expires <= message.send_at:
        yield Violation("expires_at", "must be later than send_at")


def _has_offset(time: datetime) -> bool:
    return time.utcoffset() is not None


def _check_metadata(metadata: Mapping[str, str]) -> Iterator[Violation]:
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
