"""Parses the filter of `comms resend --where`, in a small closed grammar.

    status = 'failed' and reason in ('provider_error', 'timeout') and created_at > '2026-01-31'

`parse` returns an SQL condition over `audit.recorded_message`, in which every literal is a
parameter and every name is one of `COLUMNS`; no part of the text becomes SQL. An error names the
place in the text. `api` parses, and `selection` runs the condition.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from schemas.vocabulary import Channel, Priority, Reason, Status

MAX_LENGTH = 2000  # characters
MAX_DEPTH = 50  # parentheses and negations within one another

_GRAMMAR = r"""
?disjunction: conjunction ("or"i conjunction)*
?conjunction: condition ("and"i condition)*
?condition: test | "not"i condition -> negation | "(" disjunction ")" -> group
?test: NAME OPERATOR value -> comparison
    | NAME "in"i "(" value ("," value)* ")" -> is_in
    | NAME "not"i "in"i "(" value ("," value)* ")" -> is_not_in
    | NAME "like"i TEXT -> is_like
    | NAME "not"i "like"i TEXT -> is_not_like
    | NAME "is"i "null"i -> is_null
    | NAME "is"i "not"i "null"i -> is_not_null
?value: TEXT | NUMBER
OPERATOR: "=" | "<>" | "!=" | "<=" | ">=" | "<" | ">"
NAME: /[a-z_]+/i
NUMBER: /-?[0-9]{1,9}/
TEXT: /'(?:[^']|'')*'/
%ignore /\s+/
"""
_PARSER = Lark(_GRAMMAR, start="disjunction", parser="lalr")

Node = Tree[Token]


class FilterError(Exception):
    """The text is not a filter.

    Attributes:
        problem: what is wrong.
        position: where it is wrong: the number of the character, counted from 1.
    """

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(f"at character {position}: {problem}")
        self.problem = problem
        self.position = position


class Comparison(StrEnum):
    """How a column may be compared."""

    EQUALITY = "equality"
    LIKE = "like"  # and equality
    ORDER = "order"  # and equality


@dataclass(frozen=True, slots=True)
class Column:
    """A name of the grammar: its column of the view, and how a literal becomes a value of it.

    Args:
        expected: what the literal must be, for the error message.
    """

    sql: str
    comparison: Comparison
    to_value: Callable[[str], object]
    expected: str


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL with named parameters, and their values."""

    sql: str
    values: Mapping[str, object]


def _enum_column(sql: str, enum: type[StrEnum]) -> Column:
    expected = f"one of {', '.join(enum)}"
    return Column(sql, Comparison.EQUALITY, lambda text: enum(text).value, expected)


def _text_column(sql: str) -> Column:
    return Column(sql, Comparison.LIKE, _storable, "a text without NUL")


def _time_column(sql: str) -> Column:
    expected = "a time such as 2026-01-31 or 2026-01-31T09:00:00Z"
    return Column(sql, Comparison.ORDER, _instant, expected)


def _storable(text: str) -> str:
    """Check that PostgreSQL can hold a text.

    Raises:
        ValueError: it has a NUL or half a surrogate pair.
    """
    if b"\x00" in text.encode():
        raise ValueError(text)
    return text


def _instant(text: str) -> datetime:
    """Parse a time; one without an offset is in UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "id": Column("message_id", Comparison.EQUALITY, UUID, "a message's id"),
        "channel": _enum_column("channel", Channel),
        "status": _enum_column("status", Status),
        "reason": _enum_column("reason", Reason),
        "priority": _enum_column("priority", Priority),
        "provider": _text_column("provider"),
        "customer_id": _text_column("customer_id"),
        "workflow": _text_column("workflow"),
        "to": _text_column("recipient"),
        "recipient": _text_column("recipient"),
        "attempts": Column("attempts", Comparison.ORDER, int, "a whole number"),
        **{
            name: _time_column(name)
            for name in ("created_at", "updated_at", "send_at", "expires_at", "sent_at")
        },
        "finished_at": _time_column("finished_at"),
    }
)

# These statuses have an index of their own, over the column `trouble`. A condition on both columns
# uses it, and means the same.
_TROUBLE = frozenset({Status.FAILED.value, Status.UNKNOWN.value})
# A message's id carries its time, and there is an index of ids.
_SINCE = "message_id >= comms.uuid_from(%({name})s - interval '1 hour')"
_UNTIL = "message_id < comms.uuid_from(%({name})s + interval '1 hour')"
_BOUNDS = {">": _SINCE, ">=": _SINCE, "<": _UNTIL, "<=": _UNTIL}
# Times outside these fit into no id.
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def parse(text: str) -> Condition:
    """Parse a filter into a condition.

    Raises:
        FilterError: the text is not a filter.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"more than {MAX_LENGTH} characters", MAX_LENGTH + 1)
    tree = _tree(text)
    writer = _SqlWriter()
    sql = writer.write(tree, depth=0)
    return Condition(" AND ".join([f"({sql})", *writer.id_bounds(tree)]), writer.values)


def _tree(text: str) -> Node:
    try:
        return _PARSER.parse(text)
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise FilterError("it ends too early", len(text) + 1) from None
        raise _error(error.token, f"{error.token!s} does not belong here") from None
    except UnexpectedCharacters as error:
        raise FilterError(f"{error.char!r} does not belong here", _place(error)) from None
    except UnexpectedInput as error:
        raise FilterError("not understood", _place(error)) from None


def _place(error: UnexpectedInput) -> int:
    return (error.pos_in_stream or 0) + 1


class _SqlWriter:
    """Writes a tree as SQL and collects its literals."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def write(self, node: Node, *, depth: int) -> str:
        """Return the SQL of a node."""
        if depth > MAX_DEPTH:
            raise FilterError(f"nested more than {MAX_DEPTH} deep", 1)
        match node.data:
            case "disjunction" | "conjunction":
                operator = " OR " if node.data == "disjunction" else " AND "
                parts = [self.write(part, depth=depth + 1) for part in _nodes(node)]
                return f"({operator.join(parts)})"
            case "negation":
                return f"(NOT {self.write(_nodes(node)[0], depth=depth + 1)})"
            case "group":
                return self.write(_nodes(node)[0], depth=depth + 1)
            case test:
                return self._test(test, *_tokens(node))

    def id_bounds(self, tree: Node) -> list[str]:
        """Return conditions on the id, where the whole filter is bounded in time."""
        parts = _nodes(tree) if tree.data == "conjunction" else [tree]
        comparisons = [_tokens(part) for part in parts if part.data == "comparison"]
        bounds = []
        for name, operator, literal in comparisons:
            if name.lower() == "created_at" and operator in _BOUNDS:
                bounds += self._id_bound(operator, self._parameter(_column(name), literal))
        return bounds

    def _id_bound(self, operator: str, name: str) -> list[str]:
        at = self.values[name]
        fits = isinstance(at, datetime) and _EARLIEST < at < _LATEST
        return [_BOUNDS[operator].format(name=name)] if fits else []

    def _test(self, test: str, name: Token, *rest: Token) -> str:
        column = _column(name)
        match test:
            case "is_null":
                return f"{column.sql} IS NULL"
            case "is_not_null":
                return f"{column.sql} IS NOT NULL"
            case "is_like" | "is_not_like":
                return self._like(column, name, rest[0], negated=test == "is_not_like")
            case "is_in" | "is_not_in":
                return self._is_in(column, rest, negated=test == "is_not_in")
            case _:
                return self._comparison(column, *rest)

    def _comparison(self, column: Column, operator: Token, literal: Token) -> str:
        if operator in {"=", "!=", "<>"}:
            return self._is_in(column, [literal], negated=operator != "=")
        if column.comparison is not Comparison.ORDER:
            raise _error(operator, f"{operator} compares numbers and times; use = or <>")
        return f"{column.sql} {operator} %({self._parameter(column, literal)})s"

    def _is_in(self, column: Column, literals: Sequence[Token], *, negated: bool) -> str:
        names = [self._parameter(column, literal) for literal in literals]
        listed = ", ".join(f"%({name})s" for name in names)
        if negated:
            return f"{column.sql} NOT IN ({listed})"
        values = {self.values[name] for name in names}
        trouble = " AND trouble" if column.sql == "status" and values <= _TROUBLE else ""
        return f"({column.sql} IN ({listed}){trouble})"

    def _like(self, column: Column, name: Token, literal: Token, *, negated: bool) -> str:
        if column.comparison is not Comparison.LIKE:
            raise _error(name, f"{name} cannot be compared with LIKE")
        pattern = self._parameter(column, literal)
        return f"{column.sql} {'NOT ' if negated else ''}LIKE %({pattern})s"

    def _parameter(self, column: Column, literal: Token) -> str:
        text = literal[1:-1].replace("''", "'") if literal.type == "TEXT" else str(literal)
        try:
            value = column.to_value(text)
        except ValueError:
            raise _error(literal, f"{literal} is not {column.expected}") from None
        name = f"w{len(self.values)}"
        self.values[name] = value
        return name


def _column(name: Token) -> Column:
    column = COLUMNS.get(name.lower())
    if column is None:
        raise _error(name, f"there is no {name}; there are {', '.join(COLUMNS)}")
    return column


def _error(token: Token, problem: str) -> FilterError:
    return FilterError(problem, (token.start_pos or 0) + 1)


def _nodes(node: Node) -> list[Node]:
    return [child for child in node.children if isinstance(child, Tree)]


def _tokens(node: Node) -> list[Token]:
    return [child for child in node.children if isinstance(child, Token)]
