"""Templates, and how the page writes times, numbers and the words of the vocabulary.

Templates and assets lie beside this module and are part of the package; an asset's address carries
a digest of its content, so that browsers keep it until it changes.
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

_CHANNELS = {
    Channel.SMS: "SMS",
    Channel.EMAIL: "E-mail",
    Channel.PUSH: "Push",
    Channel.VOICE: "Voice",
}
_READINESS = {
    Readiness.LIVE: "Live",
    Readiness.SIMULATED: "Simulated",
    Readiness.PROBED: "Probed",
    Readiness.CONFIGURED: "Configured",
    Readiness.SETUP_NEEDED: "Setup needed",
    Readiness.DEGRADED: "Degraded",
    Readiness.PAUSED: "Paused",
}
_STEPS = ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600), (30 * 86400, "d", 86400))


class Renderer:
    """Makes the HTML of a page, or of the part of it that lives."""

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
            "channel": lambda word: _CHANNELS[word],
            "readiness": lambda word: _READINESS[word],
            "words": lambda word: str(word).replace("_", " "),
            "number": lambda number: f"{number:,}",
            "ago": self._ago,
            "elapsed": elapsed,
        }
        self._environment.globals |= {
            "asset": _address,
            "channels": tuple(Channel),
            "statuses": tuple(Status),
            "reasons": tuple(Reason),
        }

    def page(self, name: str, *, fragment: bool = False, **values: object) -> str:
        """A template's HTML; with `fragment` only what stands in its `live` block."""
        template = self._environment.get_template(f"{name}.html")
        if fragment and "live" in template.blocks:
            return "".join(template.blocks["live"](template.new_context(values)))
        return template.render(values)

    def _ago(self, at: datetime) -> Markup:
        """A time as people say it, with the exact instant one pointing away."""
        utc = at.astimezone(UTC)
        text = relative(self._clock() - at)
        return Markup('<time datetime="{0}" title="{1} UTC">{2}</time>').format(
            utc.isoformat(timespec="milliseconds"), f"{utc:%Y-%m-%d %H:%M:%S.%f}"[:-3], text
        )


def relative(age: timedelta) -> str:
    """`12 s ago`, `in 3 h`, `just now`."""
    seconds = age.total_seconds()
    size = amount(abs(seconds))
    if size is None:
        return "just now"
    return f"{size} ago" if seconds > 0 else f"in {size}"


def amount(seconds: float) -> str | None:
    """`12 s`, `3 min`, …; None for less than a second."""
    if seconds < 1:
        return None
    for bound, unit, size in _STEPS:
        if seconds < bound:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds // 86400)} d"


def elapsed(since: datetime, at: datetime) -> str:
    """`+0.35 s` after the beginning."""
    seconds = (at - since).total_seconds()
    sign = "-" if seconds < 0 else "+"
    if abs(seconds) < 60:
        return f"{sign}{abs(seconds):.2f} s"
    return f"{sign}{amount(abs(seconds))}"


def asset(name: str) -> tuple[bytes, str] | None:
    """An asset's content and media type, by name."""
    kind = ASSETS.get(name)
    return None if kind is None else (_content(name), kind)


@cache
def _content(name: str) -> bytes:
    return files("audit.page").joinpath("static", name).read_bytes()


@cache
def _address(name: str) -> str:
    return f"/assets/{name}?v={hashlib.sha256(_content(name)).hexdigest()[:12]}"
