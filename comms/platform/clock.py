"""The clock, an argument of every function that depends on the time, so that tests can set it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the current time, with its time zone."""
    return datetime.now(UTC)
