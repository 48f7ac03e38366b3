"""The clock, passed to whoever decides something by the time, so that a test can be the one to say."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant, with its zone."""
    return datetime.now(UTC)
