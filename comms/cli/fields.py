"""The fields of a message on the command line and in files, and how text becomes their values.

`comms.cli.send` converts options with it, `comms.cli.rows` the cells of a CSV file. Only the JSON
type of a value is decided here; the API validates the value.
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
_BOOLEANS = frozenset({"bypass_suppression"})
_LISTS = frozenset({"cc", "bcc"})
_JSON = frozenset({"metadata", "headers", "data", "attachments"})


def fields_of(channel: Channel) -> tuple[str, ...]:
    """Return every field that a message of the channel may have."""
    return ("channel", *FIELDS_OF[channel], *COMMON)


def parse_value(channel: Channel, name: str, text: str) -> Any:
    """Convert text to the JSON type of a field.

    Raises:
        ValueError: the text does not fit the type; the error says what must be written.
    """
    if name in _WHOLE_NUMBERS:
        return _parse_int(text)
    if name in _BOOLEANS:
        return _parse_bool(text)
    if name in _LISTS:
        parts = text.replace("\n", ";").split(";")
        return [part.strip() for part in parts if part.strip()]
    if name in _JSON or (name == "to" and channel is Channel.PUSH and text.startswith(("[", "{"))):
        return _parse_json(text)
    return text


def parse_recipients(channel: Channel, values: list[str]) -> Any:
    """Convert the `--to` options; push accepts several, or a subscription as JSON.

    Raises:
        CommandError: there are several, and the channel accepts only one.
    """
    if len(values) == 1:
        try:
            return parse_value(channel, "to", values[0])
        except ValueError as error:
            raise CommandError(f"--to: {error}") from error
    if channel is not Channel.PUSH:
        raise CommandError(f"--to: {channel} accepts one recipient per message")
    return values


def parse_pairs(option: str, values: list[str]) -> dict[str, str]:
    """Convert `name=value` options to a dictionary.

    Raises:
        CommandError: one of them is not such a pair.
    """
    pairs = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CommandError(f"{option}: write it as NAME=VALUE, not {text!r}")
        pairs[name.strip()] = value
    return pairs


def read_attachment(path: Path) -> Content:
    """Read a file into an entry of the API's `attachments`.

    Raises:
        CommandError: the file cannot be read.
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


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _parse_bool(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("must be JSON") from None
