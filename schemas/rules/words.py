"""What several rules ask of a piece of text: its length, its letters, whether it is an address.

The rules of each channel are written with these. A sentence never repeats the offending value.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from schemas.errors import Violation

URL_LIMIT = 2048
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def word(field: str, value: str | None, limit: int) -> Iterator[Violation]:
    """A name or id: some characters, none of them a control character."""
    if value is None:
        return
    if not 0 < len(value) <= limit:
        yield Violation(field, f"must have 1 to {limit} characters")
    if CONTROL.search(value):
        yield Violation(field, "must not contain control characters")


def said(field: str, text: str, limit: int) -> Iterator[Violation]:
    """What a person reads or hears."""
    if not text.strip() or len(text) > limit:
        yield Violation(field, f"must have 1 to {limit} characters")


def between(field: str, value: int, least: int, most: int) -> Iterator[Violation]:
    """A number with bounds, both of them allowed."""
    if not least <= value <= most:
        yield Violation(field, f"must be from {least} to {most}")


def https(field: str, value: str, limit: int = URL_LIMIT) -> Iterator[Violation]:
    """An https:// address."""
    if len(value) > limit or not is_https(value):
        yield Violation(field, f"must be an https address of at most {limit} characters")


def is_https(value: str) -> bool:
    """Whether it is an https:// address, of any length."""
    if any(character.isspace() for character in value) or CONTROL.search(value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_one_line(text: str) -> bool:
    """Whether everybody takes it for one line: Unicode has ends of lines beside the well-known."""
    return not CONTROL.search(text) and len(f"{text}.".splitlines()) == 1


def size_of(text: str) -> int:
    """Its bytes in UTF-8."""
    return len(text.encode("utf-8", "replace"))
