"""What is wrong with a field, in words that say what to write instead.

pydantic checks requests and reports each error by a type, a context and a message of its own. The
messages are written for Python programmers. `describe` turns an error into a sentence that follows
the name of the field. `comms.platform.problems` and `producer.request_errors` call it.
"""

from collections.abc import Mapping
from typing import Any

RFC_3339 = "must be a time in RFC 3339 with an offset, such as 2030-01-31T09:00:00Z"

_PROBLEMS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "dict_type": "must be an object of names and values",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "json_invalid": "must be JSON",
    "uuid_type": "must be a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057",
    "uuid_parsing": "must be a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057",
    "datetime_type": RFC_3339,
    "datetime_parsing": RFC_3339,
    "datetime_from_date_parsing": RFC_3339,
    "datetime_object_invalid": RFC_3339,
    "timezone_aware": RFC_3339,
}


def describe(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, for an entry of pydantic's `ValidationError.errors()`.

    A validator of our own raises `ValueError` with such a sentence, which is returned as it is.
    """
    kind, context = error["type"], error.get("ctx", {})
    match kind:
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
        case "enum" | "literal_error":
            choices = str(context["expected"]).replace("'", "")
            return f"must be one of {choices}" if " or " in choices else f"must be {choices}"
        case _ if kind in _PROBLEMS:
            return _PROBLEMS[kind].format_map(context)
    return f"is not valid ({kind})"
