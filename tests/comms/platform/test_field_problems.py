"""Errors of pydantic become sentences that say what to write instead."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from comms.platform.field_problems import RFC_3339, describe


class Color(StrEnum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Item(BaseModel, extra="forbid"):
    name: str


def refuse(_: object) -> object:
    raise ValueError("must be lucky")


UUID_PROBLEM = "must be a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (str, 1, "must be a string"),
        (int, "x", "must be a whole number"),
        (int, None, "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (float, "x", "must be a number"),
        (bool, "perhaps", "must be true or false"),
        (list[int], "x", "must be a list"),
        (dict[str, str], "x", "must be an object of names and values"),
        (Item, "x", "must be a JSON object"),
        (Item, {}, "is required"),
        (Item, {"name": "x", "color": 1}, "is not a known field"),
        (Color, "pink", "must be one of red, green or blue"),
        (Literal["one"], "two", "must be one"),
        (UUID, "123", UUID_PROBLEM),
        (UUID, 123, UUID_PROBLEM),
        (datetime, "", RFC_3339),
        (datetime, "2030-13-01T00:00:00Z", RFC_3339),
        (AwareDatetime, "2030-01-01T00:00:00", RFC_3339),
        (Annotated[int, Field(ge=1)], 0, "must be at least 1"),
        (Annotated[int, Field(le=9)], 10, "must be at most 9"),
        (Annotated[str, Field(min_length=2)], "x", "must have at least 2 characters"),
        (Annotated[str, Field(max_length=2)], "xxx", "must have at most 2 characters"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "must have at most 1 items"),
        (Annotated[str, BeforeValidator(refuse)], "x", "must be lucky"),
        (complex, "x", "is not valid (complex_type)"),
    ],
)
def test_a_problem_says_what_to_write(kind: Any, value: object, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert [describe(error) for error in caught.value.errors()] == [problem]
