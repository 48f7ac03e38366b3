"""Renders the templates of the page: times, numbers, and the values of the vocabulary.

The routes of the page render their templates here. Templates and assets are in folders beside this
module and are part of the package. The URL of an asset contains a digest of its content, so that
browsers cache it until it changes.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from audit.records import Readiness
from comms.platform.clock import Clock
from schemas.vocabulary import Channel, Reason, Status

ASSETS: Mapping[str, str] = MappingProxyType(
    {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
)

_CHANNEL_NAMES = {
    Channel.SMS: "SMS",
    Channel.EMAIL: "E-mail",
    Channel.PUSH: "Push",
    Channel.VOICE: "Voice",
}
_READINESS_NAMES = {
    Readiness.LIVE: "Live",
    Readiness.SIMULATED: "Simulated",
    Readiness.PROBED: "Probed",
    Readiness.CONFIGURED: "Configured",
    Readiness.SETUP_NEEDED: "Setup needed",
    Readiness.DEGRADED: "Degraded",
    Readiness.PAUSED: "Paused",
}
_UNITS = ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600))


class Renderer:
    """Renders the HTML of a page, or only of the part that is updated while the page is open."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._environment = Environment(
            loader=PackageLoader("audit.page"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._environment.filters |= {
            "channel": lambda channel: _CHANNEL_NAMES[channel],
            "readiness": lambda readiness: _READINESS_NAMES[readiness],
            "spaced": lambda name: str(name).replace("_", " "),
            "number": lambda number: f"{number:,}",
            "ago": self._time_element,
            "elapsed": format_elapsed,
        }
        self._environment.globals |= {
            "asset": _asset_url,
            "channels": tuple(Channel),
            "statuses": tuple(Status),
            "reasons": tuple(Reason),
        }

    def render(self, name: str, *, fragment: bool = False, **values: object) -> str:
        """Return the HTML of a template; with `fragment`, of its `live` block if it has one."""
        template = self._environment.get_template(f"{name}.html")
        if fragment and "live" in template.blocks:
            return "".join(template.blocks["live"](template.new_context(values)))
        return template.render(values)

    def _time_element(self, at: datetime) -> Markup:
        """Return a `time` element: the age of a time, with the exact time as its title."""
        utc = at.astimezone(UTC)
        text = format_age(self._clock() - at)
        return Markup('<time datetime="{0}" title="{1} UTC">{2}</time>').format(
            utc.isoformat(timespec="milliseconds"), f"{utc:%Y-%m-%d %H:%M:%S.%f}"[:-3], text
        )


def format_age(age: timedelta) -> str:
    """Return an age as text: `12 s ago`, `in 3 h`, `just now`."""
    seconds = age.total_seconds()
    if abs(seconds) < 1:
        return "just now"
    duration = format_duration(abs(seconds))
    return f"{duration} ago" if seconds > 0 else f"in {duration}"


def format_duration(seconds: float) -> str:
    """Return a duration in its largest unit, rounded down: `12 s`, `3 min`, `2 h`, `5 d`."""
    for limit, unit, unit_seconds in _UNITS:
        if seconds < limit:
            return f"{int(seconds // unit_seconds)} {unit}"
    return f"{int(seconds // 86400)} d"


def format_elapsed(since: datetime, at: datetime) -> str:
    """Return the time from `since` to `at`, such as `+0.35 s` or `+3 min`."""
    seconds = (at - since).total_seconds()
    sign = "-" if seconds < 0 else "+"
    if abs(seconds) < 60:
        return f"{sign}{abs(seconds):.2f} s"
    return f"{sign}{format_duration(abs(seconds))}"


def read_asset(name: str) -> tuple[bytes, str] | None:
    """Return the content and the media type of an asset; None if there is no such asset."""
    media_type = ASSETS.get(name)
    return None if media_type is None else (_read_content(name), media_type)


@cache
def _read_content(name: str) -> bytes:
    return files("audit.page").joinpath("static", name).read_bytes()


@cache
def _asset_url(name: str) -> str:
    return f"/assets/{name}?v={hashlib.sha256(_read_content(name)).hexdigest()[:12]}"
