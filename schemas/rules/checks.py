"""The checks that several rules share: the length of a text, its characters, whether it is a URL.

The rules of each channel are written with these functions. A check yields a `Violation` for each
problem, and nothing if there is none. The sentence of a violation never repeats the value that
broke the rule, because the value may be personal data.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from schemas.errors import Violation

URL_LIMIT = 2048
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_name(field: str, value: str | None, limit: int) -> Iterator[Violation]:
    """Check a name or an id: 1 to `limit` characters without control characters. None is valid."""
    if value is None:
        return
    if not 0 < len(value) <= limit:
        yield Violation(field, f"must have 1 to {limit} characters")
    if CONTROL.search(value):
        yield Violation(field, "must not contain control characters")


def check_text(field: str, text: str, limit: int) -> Iterator[Violation]:
    """Check a text that a person reads or hears: not blank, at most `limit` characters."""
    if not text.strip() or len(text) > limit:
        yield Violation(field, f"must have 1 to {limit} characters")


def check_range(field: str, value: int, minimum: int, maximum: int) -> Iterator[Violation]:
    """Check that a number is in a range. Both bounds are allowed values."""
    if not minimum <= value <= maximum:
        yield Violation(field, f"must be from {minimum} to {maximum}")


def check_https_url(field: str, value: str, limit: int = URL_LIMIT) -> Iterator[Violation]:
    """Check that a value is an https:// address of at most `limit` characters."""
    if len(value) > limit or not is_https(value):
        yield Violation(field, f"must be an https address of at most {limit} characters")


def is_https(value: str) -> bool:
    """Whether a value is an https:// address, of any length."""
    if any(character.isspace() for character in value) or CONTROL.search(value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_one_line(text: str) -> bool:
    """Whether a text is one line. Unicode has more line breaks than `\\r` and `\\n`."""
    return not CONTROL.search(text) and len(f"{text}.".splitlines()) == 1


def utf8_size(text: str) -> int:
    """The number of bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "replace"))
