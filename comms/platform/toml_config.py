"""Checks the tables of `comms.toml` against models, and says what is wrong with them in one line.

Each table has a frozen model, a subclass of `Table`. `comms.platform.settings` and the provider
registry pass a table that was read from the file to `validate`. This is the only place that knows
the errors of pydantic: whatever a model refuses leaves here as a `SettingsError`, which names the
key with its full path (`sms.retry.attempts`, `email.providers[smtp].port`) and states the problem
in plain words. The wrong value itself is never repeated, since it may be a secret.

    SettingsError            a setting is missing or wrong
    └── UnknownSettingError  no setting has this name
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails


class SettingsError(Exception):
    """A setting is missing or wrong; `key` names it.

    The message is one line, fit to be the last line that a service prints.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class UnknownSettingError(SettingsError):
    """No setting has this name. It always stops the service, at every level of the file."""


class WrongValueError(ValueError):
    """Raised by a validator of a model. Any other ValueError means the same.

    Args:
        problem: what is wrong, such as `must be an e-mail address`.
        key: the key that is wrong, such as `from`, if the validator is that of the whole table, or
            if the field is a table in the table.
    """

    def __init__(self, problem: str, *, key: str | None = None) -> None:
        super().__init__(problem)
        self.key = key


class Table(BaseModel):
    """One table of `comms.toml`: immutable, with the default of each key, and no other keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise WrongValueError("must be a number")
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number") from None


def _whole_number(value: object) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError("must be a whole number")
    return int(number)


Number = Annotated[float, BeforeValidator(_number)]
"""A number, written as one or as text. The environment has only texts."""

NotNegative = Annotated[Number, Field(ge=0)]
Finite = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0, le=1)]

Whole = Annotated[int, BeforeValidator(_whole_number)]
"""A whole number, written as one or as text."""

Count = Annotated[Whole, Field(ge=0)]

TableT = TypeVar("TableT", bound=Table)


def validate(
    model: type[TableT],
    table: object,
    key: str,
    *,
    variables: Mapping[str, str] = MappingProxyType({}),
    context: object = None,
) -> TableT:
    """Check a table.

    Args:
        model: what the table may hold.
        table: what is written in the file.
        key: the table's own key, such as `sms.retry`; empty for the whole file.
        variables: the environment variable of each value that does not come from the file. An
            error then names the variable.
        context: what the model's validators need besides the table.

    Raises:
        UnknownSettingError: a key is unknown. This is reported before any wrong value.
        SettingsError: a value is missing or wrong.
    """
    if not isinstance(table, dict):
        raise SettingsError(key, "must be a table")
    try:
        return model.model_validate(table, context=context)
    except ValidationError as error:  # quotes the values: not to be chained
        found = _most_important(error.errors(include_url=False))
    raise _translated(found, model, table, key=key, variables=variables)


def _most_important(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first unknown key, or else the first error."""
    return next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])


def _translated(
    error: ErrorDetails,
    model: type[Table],
    table: Mapping[str, Any],
    *,
    key: str,
    variables: Mapping[str, str],
) -> SettingsError:
    location = error["loc"]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, WrongValueError) and cause.key is not None:
        location = (*location, cause.key)
    path = _path(location, table, key)
    if len(location) == 1 and location[0] in variables:
        path = variables[str(location[0])]
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(_names_at(model, location[:-1])))
        return UnknownSettingError(path, f"no such setting; known: {known or 'none'}")
    return SettingsError(path, _problem(error))


def _path(location: Sequence[int | str], table: Mapping[str, Any], key: str) -> str:
    """The full path of a value. An element of a list has its `name`, or else its number."""
    value: Any = table
    for part in location:
        value = _element(value, part)
        if isinstance(part, int):
            name = value.get("name") if isinstance(value, dict) else None
            key += f"[{name if isinstance(name, str) and name else part}]"
        else:
            key = f"{key}.{part}" if key else part
    return key


def _element(value: Any, part: int | str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) else None


def _names_at(model: type[Table], location: Sequence[int | str]) -> set[str]:
    """The keys that the table at a location may have."""
    for part in location:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part in fields:
            model = _model_in(fields[str(part)].annotation) or model
    return {field.alias or name for name, field in model.model_fields.items()}


def _model_in(annotation: object) -> type[Table] | None:
    """The model that a type consists of: `Retry` of `Retry`, `Retry | None`, `tuple[Retry, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


Problem = Callable[[Mapping[str, Any]], str]


def _bound(text: str, name: str) -> Problem:
    return lambda context: f"{text} {context[name]:g}"


def _choices(context: Mapping[str, Any]) -> str:
    """Pydantic lists choices as `'a', 'b' or 'c'`."""
    listed = str(context["expected"]).replace(" or ", ", ").replace("'", "")
    return f"must be one of: {listed}"


PROBLEMS: Mapping[str, str | Problem] = MappingProxyType(
    {
        "missing": "missing",
        "string_type": "must be a text",
        "string_too_short": "must not be empty",
        "finite_number": "must be a finite number",
        "float_type": "must be a number",
        "float_parsing": "must be a number",
        "int_type": "must be a whole number",
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "bool_type": "must be true or false",
        "bool_parsing": "must be true or false",
        "greater_than_equal": _bound("must be at least", "ge"),
        "greater_than": _bound("must be more than", "gt"),
        "less_than_equal": _bound("must be at most", "le"),
        "less_than": _bound("must be less than", "lt"),
        "literal_error": _choices,
        "enum": _choices,
        "dict_type": "must be a table",
        "model_type": "must be a table",
        "tuple_type": "must be a list",
        "list_type": "must be a list",
        "frozen_set_type": "must be a list",
        "value_error": lambda context: str(context["error"]),
    }
)
"""The problem that each type of error of pydantic reports."""


def _problem(error: ErrorDetails) -> str:
    """What is wrong. A model of a plug-in may use types that are not listed here."""
    problem = PROBLEMS.get(error["type"], f"is not valid ({error['type']})")
    return problem if isinstance(problem, str) else problem(error.get("ctx", {}))
