"""The filter of `comms resend --where`: a small closed grammar, parsed, and never pasted into SQL.

    status = 'failed' and reason in ('provider_error', 'timeout') and created_at > '2026-01-31'

`parse` gives a condition over `audit.state` in which every literal is a parameter and every name is
one of `COLUMNS`. What is wrong is told with its place in the text.
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

LONGEST = 2000  # characters
DEEPEST = 50  # parentheses and negations within one another

_GRAMMAR = r"""
?either: both ("or"i both)*
?both: one ("and"i one)*
?one: test | "not"i one -> opposite | "(" either ")" -> group
?test: NAME OPERATOR value -> comparison
    | NAME "in"i "(" value ("," value)* ")" -> one_of
    | NAME "not"i "in"i "(" value ("," value)* ")" -> none_of
    | NAME "like"i TEXT -> like
    | NAME "not"i "like"i TEXT -> unlike
    | NAME "is"i "null"i -> missing
    | NAME "is"i "not"i "null"i -> present
?value: TEXT | NUMBER
OPERATOR: "=" | "<>" | "!=" | "<=" | ">=" | "<" | ">"
NAME: /[a-z_]+/i
NUMBER: /-?[0-9]{1,9}/
TEXT: /'(?:[^']|'')*'/
%ignore /\s+/
"""
_PARSER = Lark(_GRAMMAR, start="either", parser="lalr")

Node = Tree[Token]


class FilterError(Exception):
    """The text is no filter.

    Attributes:
        problem: what is wrong; position: of the character where, counted from 1.
    """

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(f"at character {position}: {problem}")
        self.problem, self.position = problem, position


class Kind(StrEnum):
    """What may be asked of a column."""

    WORD = "word"  # is it one of these
    TEXT = "text"  # is it this, is it like this
    ORDERED = "ordered"  # is it before or after


@dataclass(frozen=True, slots=True)
class Column:
    """A name of the grammar: its column of `audit.state`, and how a literal becomes its value."""

    sql: str
    kind: Kind
    value: Callable[[str], object]
    expected: str


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL with named parameters, and their values."""

    sql: str
    values: Mapping[str, object]


def _word(sql: str, words: type[StrEnum]) -> Column:
    return Column(sql, Kind.WORD, lambda text: words(text).value, f"one of {', '.join(words)}")


def _text(sql: str) -> Column:
    return Column(sql, Kind.TEXT, _clean, "a text without NUL")


def _time(sql: str) -> Column:
    return Column(sql, Kind.ORDERED, _instant, "a time such as 2026-01-31 or 2026-01-31T09:00:00Z")


def _clean(text: str) -> str:
    """What PostgreSQL's text can hold; half a surrogate pair is a ValueError of its own."""
    if b"\x00" in text.encode():
        raise ValueError(text)
    return text


def _instant(text: str) -> datetime:
    """Without an offset, UTC is meant."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "id": Column("message_id", Kind.WORD, UUID, "a message's id"),
        "channel": _word("channel", Channel),
        "status": _word("status", Status),
        "reason": _word("reason", Reason),
        "priority": _word("priority", Priority),
        "provider": _text("provider"),
        "customer_id": _text("customer_id"),
        "workflow": _text("workflow"),
        "to": _text("recipient"),
        "recipient": _text("recipient"),
        "attempts": Column("attempts", Kind.ORDERED, int, "a whole number"),
        **{
            name: _time(name)
            for name in ("created_at", "updated_at", "send_at", "expires_at", "sent_at")
        },
        "finished_at": _time("finished_at"),
    }
)

# Those with an index of their own; a condition on both columns finds it, and means the same.
_TROUBLE = frozenset({Status.FAILED.value, Status.UNKNOWN.value})
# A message's id carries its time, and there is an index of ids.
_SINCE = "message_id >= comms.uuid_from(%({name})s - interval '1 hour')"
_UNTIL = "message_id < comms.uuid_from(%({name})s + interval '1 hour')"
_BOUNDS = {">": _SINCE, ">=": _SINCE, "<": _UNTIL, "<=": _UNTIL}
_IDS = (datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))  # that carry a time


def parse(text: str) -> Condition:
    """The condition that a text means.

    Raises:
        FilterError: it means none.
    """
    if len(text) > LONGEST:
        raise FilterError(f"more than {LONGEST} characters", LONGEST + 1)
    tree = _tree(text)
    writing = _Writing()
    sql = writing.of(tree, depth=0)
    return Condition(" AND ".join([f"({sql})", *writing.bounds(tree)]), writing.values)


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


class _Writing:
    """Writes a tree as SQL and collects its literals."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def of(self, node: Node, *, depth: int) -> str:
        """The SQL of a node."""
        if depth > DEEPEST:
            raise FilterError(f"nested more than {DEEPEST} deep", 1)
        match node.data:
            case "either" | "both":
                joint = " OR " if node.data == "either" else " AND "
                parts = [self.of(part, depth=depth + 1) for part in _nodes(node)]
                return f"({joint.join(parts)})"
            case "opposite":
                return f"(NOT {self.of(_nodes(node)[0], depth=depth + 1)})"
            case "group":
                return self.of(_nodes(node)[0], depth=depth + 1)
            case test:
                return self._test(test, *_tokens(node))

    def bounds(self, tree: Node) -> list[str]:
        """What must hold of the id where the whole is bounded in time."""
        parts = _nodes(tree) if tree.data == "both" else [tree]
        found = []
        for part in parts:
            if part.data == "comparison":
                name, operator, literal = _tokens(part)
                if name.lower() == "created_at" and operator in _BOUNDS:
                    found += self._bound(operator, self._parameter(_column(name), literal))
        return found

    def _bound(self, operator: str, name: str) -> list[str]:
        at = self.values[name]
        is_some = isinstance(at, datetime) and _IDS[0] < at < _IDS[1]
        return [_BOUNDS[operator].format(name=name)] if is_some else []

    def _test(self, test: str, name: Token, *rest: Token) -> str:
        column = _column(name)
        match test:
            case "missing":
                return f"{column.sql} IS NULL"
            case "present":
                return f"{column.sql} IS NOT NULL"
            case "like" | "unlike":
                return self._like(column, name, rest[0], negated=test == "unlike")
            case "one_of" | "none_of":
                return self._one_of(column, rest, negated=test == "none_of")
            case _:
                return self._comparison(column, *rest)

    def _comparison(self, column: Column, operator: Token, literal: Token) -> str:
        if operator in {"=", "!=", "<>"}:
            return self._one_of(column, [literal], negated=operator != "=")
        if column.kind is not Kind.ORDERED:
            raise _error(operator, f"{operator} compares numbers and times; use = or <>")
        return f"{column.sql} {operator} %({self._parameter(column, literal)})s"

    def _one_of(self, column: Column, literals: Sequence[Token], *, negated: bool) -> str:
        names = [self._parameter(column, literal) for literal in literals]
        listed = ", ".join(f"%({name})s" for name in names)
        if negated:
            return f"{column.sql} NOT IN ({listed})"
        values = {self.values[name] for name in names}
        trouble = " AND trouble" if column.sql == "status" and values <= _TROUBLE else ""
        return f"({column.sql} IN ({listed}){trouble})"

    def _like(self, column: Column, name: Token, literal: Token, *, negated: bool) -> str:
        if column.kind is not Kind.TEXT:
            raise _error(name, f"{name} cannot be compared with LIKE")
        pattern = self._parameter(column, literal)
        return f"{column.sql} {'NOT ' if negated else ''}LIKE %({pattern})s"

    def _parameter(self, column: Column, literal: Token) -> str:
        text = literal[1:-1].replace("''", "'") if literal.type == "TEXT" else str(literal)
        try:
            value = column.value(text)
        except ValueError:
            raise _error(literal, f"{literal} is not {column.expected}") from None
        name = f"w{len(self.values)}"
        self.values[name] = value
        return name


def _column(name: Token) -> Column:
    found = COLUMNS.get(name.lower())
    if found is None:
        raise _error(name, f"there is no {name}; there are {', '.join(COLUMNS)}")
    return found


def _error(token: Token, problem: str) -> FilterError:
    return FilterError(problem, (token.start_pos or 0) + 1)


def _nodes(node: Node) -> list[Node]:
    return [child for child in node.children if isinstance(child, Tree)]


def _tokens(node: Node) -> list[Token]:
    return [child for child in node.children if isinstance(child, Token)]
