"""The errors of models in our words: no model of this tree can raise one that has none."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from comms.platform.channel_tables import ChannelSettings, RetryPolicy, RoutingPolicy
from comms.platform.limits import TenantTable
from comms.platform.provider_tables import ProviderSettings
from comms.platform.settings import ConfigFile
from comms.platform.toml_config import PROBLEMS, SettingsError, Table, WrongValueError, validate
from consumers.registry import PROVIDER_TYPES
from consumers.simulator.behaviour import Manners
from consumers.simulator.options import SimulatorTable

MODELS = {
    *(ChannelSettings, RetryPolicy, RoutingPolicy, TenantTable, ProviderSettings, ConfigFile),
    *(Manners, SimulatorTable),
    *(its.options for types in PROVIDER_TYPES.values() for its in types.values()),
}

# The errors of each type of schema that pydantic compiles a model to. Limits add their own.
ERRORS: Mapping[str, set[str]] = {
    "any": set(),
    "bool": {"bool_type", "bool_parsing"},
    "default": set(),
    "dict": {"dict_type"},
    "enum": {"enum"},
    "float": {"float_type", "float_parsing"},
    "frozenset": {"frozen_set_type"},
    "function-after": {"value_error"},
    "function-before": {"value_error"},
    "function-plain": {"value_error"},
    "int": {"int_type", "int_parsing", "int_from_float"},
    "literal": {"literal_error"},
    "model": {"model_type"},
    "model-field": {"missing"},
    "model-fields": {"extra_forbidden"},
    "nullable": set(),
    "str": {"string_type"},
    "tuple": {"tuple_type"},
}
LIMITS = {
    "ge": "greater_than_equal",
    "gt": "greater_than",
    "le": "less_than_equal",
    "lt": "less_than",
    "min_length": "string_too_short",
}
NO_LIMITS = {"allow_inf_nan", "strict", "strip_whitespace"}


def schemas_in(value: object) -> Iterator[Mapping[str, Any]]:
    """Return every schema inside a schema of pydantic."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value
        for key, inner in value.items():
            if key not in {"function", "metadata", "serialization"}:
                yield from schemas_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from schemas_in(inner)


def errors_of(model: type[BaseModel]) -> set[str]:
    """Return the types of errors that a model can raise."""
    errors = set[str]()
    for schema in schemas_in(model.__pydantic_core_schema__):
        errors |= ERRORS[schema["type"]]
        errors |= {error for limit, error in LIMITS.items() if limit in schema}
        if schema.get("allow_inf_nan") is False:
            errors.add("finite_number")
    return errors


@pytest.mark.parametrize("model", sorted(MODELS, key=str), ids=lambda model: model.__name__)
def test_every_error_of_a_model_has_words(model: type[BaseModel]) -> None:
    assert {"extra_forbidden", "model_type"} <= errors_of(model)
    assert errors_of(model) - {"extra_forbidden"} <= set(PROBLEMS)


@pytest.mark.parametrize("model", sorted(MODELS, key=str), ids=lambda model: model.__name__)
def test_every_model_is_frozen_and_refuses_unknown_keys(model: type[BaseModel]) -> None:
    assert issubclass(model, Table)
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"


class Inner(Table, strict=True):
    number: float = 1.0
    text: str = "x"


class Outer(Table, strict=True):
    count: Annotated[int, Field(ge=1, le=9)] = 1
    between: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.5
    flag: bool = False
    word: Literal["one", "two", "three"] = "one"
    title: Annotated[str, Field(min_length=1)] = "x"
    renamed: str = Field(alias="from", default="x")
    inner: Inner = Inner()
    pairs: dict[str, int] = Field(default_factory=dict)
    inners: list[Inner] = Field(default_factory=list)
    numbers: tuple[int, ...] = ()
    needed: str


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "t.needed: missing"),
        ({"count": "1"}, "t.count: must be a whole number"),
        ({"count": 1.5}, "t.count: must be a whole number"),
        ({"count": 0}, "t.count: must be at least 1"),
        ({"count": 10}, "t.count: must be at most 9"),
        ({"between": 0.0}, "t.between: must be more than 0"),
        ({"between": 1.0}, "t.between: must be less than 1"),
        ({"between": float("nan")}, "t.between: must be a finite number"),
        ({"between": "x"}, "t.between: must be a number"),
        ({"flag": 1}, "t.flag: must be true or false"),
        ({"word": "four"}, "t.word: must be one of: one, two, three"),
        ({"title": 1}, "t.title: must be a text"),
        ({"title": ""}, "t.title: must not be empty"),
        ({"from": 1}, "t.from: must be a text"),
        ({"inner": 1}, "t.inner: must be a table"),
        ({"inner": {"number": "x"}}, "t.inner.number: must be a number"),
        ({"pairs": 1}, "t.pairs: must be a table"),
        ({"pairs": {"a": "x"}}, "t.pairs.a: must be a whole number"),
        ({"inners": 1}, "t.inners: must be a list"),
        ({"inners": [{}, 1]}, "t.inners[1]: must be a table"),
        ({"numbers": 1}, "t.numbers: must be a list"),
        ({"renamed": "x"}, "t.renamed: no such setting; known: between, count, flag, from, inner"),
        ({"inner": {"name": "x"}}, "t.inner.name: no such setting; known: number, text"),
        (
            {"inners": [{"name": "x"}]},
            "t.inners[x].name: no such setting; known: number, text",
        ),
    ],
    ids=str,
)
def test_an_error_names_the_key_and_the_problem(table: dict[str, object], message: str) -> None:
    complete = {"needed": "x", **table} if table else {}
    with pytest.raises(SettingsError) as caught:
        validate(Outer, complete, "t")
    assert str(caught.value).startswith(message)
    assert caught.value.key == message.partition(":")[0]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^t: must be a table$"):
        validate(Outer, [], "t")


def test_an_error_does_not_show_the_value() -> None:
    with pytest.raises(SettingsError) as caught:
        validate(Inner, {"number": "the secret"}, "t")
    error: BaseException | None = caught.value
    while error is not None:
        assert "the secret" not in str(error)
        error = error.__cause__ or error.__context__


def test_a_type_that_is_not_listed_is_named() -> None:
    class OfPlugin(Table):
        when: complex = 0j

    with pytest.raises(SettingsError, match=r"^t\.when: is not valid \(complex_"):
        validate(OfPlugin, {"when": "x"}, "t")


def test_a_validator_of_a_table_names_the_key() -> None:
    assert WrongValueError("must be set", key="from").key == "from"
    assert WrongValueError("must be set").key is None
