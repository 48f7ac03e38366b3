"""The errors of a request's shape, as violations that name the field and say what to write.

`producer.requests` calls `to_violations` when pydantic refuses a document. `producer.entries` calls
`to_request_field` for violations of a message's rules.
"""

import re

from pydantic import ValidationError

from comms.platform.field_problems import describe
from schemas.errors import Violation
from schemas.vocabulary import Channel

_CHANNELS = ", ".join(Channel)
_TO_VARIANTS = {"token", "tokens", "subscription"}


def to_violations(error: ValidationError) -> tuple[Violation, ...]:
    """Return one violation for each wrong field of a request."""
    violations = []
    for item in error.errors(include_url=False, include_input=False):
        location = item["loc"]
        match item["type"]:
            case "union_tag_not_found" if location:
                problem = "must be a device token, a list of them, or a Web Push subscription"
                violations.append(Violation("to", problem))
            case "union_tag_invalid" | "union_tag_not_found":
                violations.append(Violation("channel", f"must be one of {_CHANNELS}"))
            case "model_attributes_type" if len(location) <= 1:
                violations.append(Violation("body", "must be a JSON object"))
            case "extra_forbidden":
                problem = "is not a field of this channel"
                violations.append(Violation(_path(location), problem))
            case _:
                violations.append(Violation(_path(location), describe(item)))
    return tuple(dict.fromkeys(violations))


def _path(location: tuple[int | str, ...]) -> str:
    """Return a path such as `attachments[0].content`, without pydantic's names of variants."""
    path = ""
    for part in location[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in _TO_VARIANTS and part != "[key]":
            path += f".{part}" if path else part
    return path


def to_request_field(violation: Violation) -> Violation:
    """Return a violation with the field's name in a request: push messages have all in `to`."""
    field = re.sub(r"^subscription\.(p256dh|auth)", r"to.keys.\1", violation.field)
    field = re.sub(r"^(tokens|subscription)\b", "to", field)
    return Violation(field, violation.problem)
