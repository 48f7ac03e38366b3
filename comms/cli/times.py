"""Times as a person types them on the command line: `2h` (ago), `+30m` (from now), or RFC 3339."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta

import typer

from comms.platform.clock import utc_now

_SPAN = re.compile(r"([+-]?)(\d{1,6})([smhd])")
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def instant(text: str, *, now: Callable[[], datetime] = utc_now) -> str:
    """The time as RFC 3339 with an offset; without one, this machine's own is meant.

    Raises:
        typer.BadParameter: it is no time.
    """
    span = _SPAN.fullmatch(text)
    if span:
        sign, count, unit = span.groups()
        distance = timedelta(**{_UNIT[unit]: int(count)})
        return (now() + distance if sign == "+" else now() - distance).isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2h (ago), +30m (from now) or 2030-01-31T09:00:00Z"
        ) from None
    return (at if at.tzinfo else at.astimezone()).isoformat()
