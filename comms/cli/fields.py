"""The fields of a message as command line and files write them, and how text becomes their values.

`comms.cli.send` reads options by it, `comms.cli.rows` the cells of a CSV file. What a value may be
is the API's to say; here only its JSON type is settled.
"""

import base64
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comms.cli.errors import CommandError
from schemas.vocabulary import Channel

Content = dict[str, Any]

COMMON = (
    *("idempotency_key", "customer_id", "workflow", "priority", "send_at", "expires_at"),
    *("on_doubt", "metadata", "bypass_suppression", "mode"),
)
FIELDS_OF: Mapping[Channel, tuple[str, ...]] = {
    Channel.SMS: ("to", "body", "from"),
    Channel.EMAIL: (
        *("to", "subject", "text", "html", "cc", "bcc", "reply_to", "from", "attachments"),
        *("headers", "unsubscribe_url"),
    ),
    Channel.PUSH: (*("to", "title", "body", "platform", "data", "badge", "collapse_key", "ttl"),),
    Channel.VOICE: ("to", "text", "audio_url", "language", "voice", "repeat", "from"),
}
_WHOLE_NUMBERS = frozenset({"badge", "ttl", "repeat"})
_YES_OR_NO = frozenset({"bypass_suppression"})
_LISTS = frozenset({"cc", "bcc"})
_JSON = frozenset({"metadata", "headers", "data", "attachments"})


def fields_of(channel: Channel) -> tuple[str, ...]:
    """Every field a message of the channel may have."""
    return ("channel", *FIELDS_OF[channel], *COMMON)


def value_of(channel: Channel, name: str, text: str) -> Any:
    """What a cell's text means for a field.

    Raises:
        ValueError: it cannot mean anything; the text says why.
    """
    if name in _WHOLE_NUMBERS:
        return _whole_number(text)
    if name in _YES_OR_NO:
        return _yes_or_no(text)
    if name in _LISTS:
        parts = text.replace("\n", ";").split(";")
        return [part.strip() for part in parts if part.strip()]
    if name in _JSON or (name == "to" and channel is Channel.PUSH and text.startswith(("[", "{"))):
        return _json(text)
    return text


def recipient(channel: Channel, given: list[str]) -> Any:
    """`to` from the `--to` options: push takes several, or a subscription as JSON.

    Raises:
        CommandError: several are given to a channel that takes one.
    """
    if len(given) == 1:
        try:
            return value_of(channel, "to", given[0])
        except ValueError as error:
            raise CommandError(f"--to: {error}") from error
    if channel is not Channel.PUSH:
        raise CommandError(f"--to: {channel} takes one recipient a message")
    return given


def pairs(option: str, given: list[str]) -> dict[str, str]:
    """`name=value` words as a map.

    Raises:
        CommandError: one of them is no such pair.
    """
    found = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise CommandError(f"{option}: write it as name=value")
        found[name.strip()] = value
    return found


def attachment(path: Path) -> Content:
    """A file as the API takes it.

    Raises:
        CommandError: it cannot be read.
    """
    kind, _ = mimetypes.guess_type(path.name)
    try:
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise CommandError(f"--attach: cannot read {path}: {error.strerror}") from error
    return {
        "filename": path.name,
        "content_type": kind or "application/octet-stream",
        "content": content,
    }


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _yes_or_no(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("must be JSON") from None
