"""Times as a person types them: `2h` (ago), `+30m` (from now), or RFC 3339.

Options of `comms send` mean the future, options of searches the past; the error shows an example
of the one that is meant.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta

import typer

from comms.platform.clock import utc_now

_DURATION = re.compile(r"([+-]?)(\d{1,6})([smhd])")
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_PAST_EXAMPLE = "2h (2 hours ago) or 2026-01-31T09:00:00Z"
_FUTURE_EXAMPLE = "+30m (in 30 minutes) or 2030-01-31T09:00:00Z"


def parse_past(text: str, option: str, *, now: Callable[[], datetime] = utc_now) -> str:
    """Parse a time that limits a search; see `parse_time`."""
    return parse_time(text, option, example=_PAST_EXAMPLE, now=now)


def parse_future(text: str, option: str, *, now: Callable[[], datetime] = utc_now) -> str:
    """Parse a time at which something should happen; see `parse_time`."""
    return parse_time(text, option, example=_FUTURE_EXAMPLE, now=now)


def parse_time(text: str, option: str, *, example: str, now: Callable[[], datetime]) -> str:
    """Convert a time to RFC 3339 with an offset; without one it is in the local time zone.

    Args:
        option: the option it was given with, for the error.
        example: what to write instead, for the error.

    Raises:
        typer.BadParameter: the text is not a time.
    """
    duration = _DURATION.fullmatch(text)
    if duration:
        sign, count, unit = duration.groups()
        distance = timedelta(**{_UNIT[unit]: int(count)})
        return (now() + distance if sign == "+" else now() - distance).isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{option}: {text!r} is not a time; write {example}") from None
    return (at if at.tzinfo else at.astimezone()).isoformat()
