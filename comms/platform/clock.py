"""The clock: passed to whoever decides by the time, so that a test can say what time it is."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant, with its zone."""
    return datetime.now(UTC)
