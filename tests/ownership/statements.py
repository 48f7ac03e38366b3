"""Finds the SQL of a Python module: every string, put together as far as the source shows it.

An f-string, a concatenation and a `.format` of strings are one text. A name in it that the module
sets to a string once is replaced by that string, so that a statement made of constants is seen
whole. Docstrings are not SQL.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

UNKNOWN = " {} "  # stands for what only the running program knows


@dataclass(frozen=True, slots=True)
class SqlText:
    """A string of a module, and the line where it begins."""

    line: int
    text: str


def texts_of(source: str) -> Iterator[SqlText]:
    """Yield every string of a module that is not a docstring, and every pair of names.

    A pair such as `("producer", "allowance")` is yielded as `producer.allowance`: a table's name
    that psycopg quotes.
    """
    tree = ast.parse(source)
    constants = _constants(tree)
    yield from _walk(tree, constants, used=_used(tree, constants))


def _constants(tree: ast.Module) -> dict[str, str]:
    """The module's names of strings, those of f-strings made of earlier ones too."""
    found: dict[str, str] = {}
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                text = _text(value, found)
                if text is not None:
                    found[name] = text
    return found


def _used(tree: ast.Module, constants: Mapping[str, str]) -> frozenset[str]:
    """The constants that other texts of the module contain: they are seen there."""
    return frozenset(
        part.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
        if isinstance(part, ast.FormattedValue)
        and isinstance(part.value, ast.Name)
        and part.value.id in constants
    )


def _walk(node: ast.AST, constants: Mapping[str, str], used: frozenset[str]) -> Iterator[SqlText]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.Assign) and _is_part(child, used):
            continue
        text = _text(child, constants)
        if text is not None and isinstance(child, ast.expr) and not isinstance(child, ast.Name):
            yield SqlText(child.lineno, text)
            yield from _arguments(child, constants, used)
            continue
        if isinstance(child, ast.Tuple) and (pair := _pair(child)) is not None:
            yield SqlText(child.lineno, pair)
        yield from _walk(child, constants, used)


def _is_part(node: ast.Assign, used: frozenset[str]) -> bool:
    return any(isinstance(target, ast.Name) and target.id in used for target in node.targets)


def _arguments(
    node: ast.AST, constants: Mapping[str, str], used: frozenset[str]
) -> Iterator[SqlText]:
    """The strings handed to a `.format` are texts of their own."""
    if isinstance(node, ast.Call):
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            yield from _walk(ast.Expr(value=argument), constants, used)


def _text(node: ast.AST, constants: Mapping[str, str]) -> str | None:
    """The string that an expression makes; None if it makes something else."""
    text: str | None = None
    match node:
        case ast.Constant(value=str() as value):
            text = value
        case ast.Name(id=name):
            text = constants.get(name)
        case ast.JoinedStr(values=parts):
            text = "".join(_part(part, constants) for part in parts)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            sides = _text(left, constants), _text(right, constants)
            if sides != (None, None):
                text = "".join(UNKNOWN if side is None else side for side in sides)
        case (
            ast.BinOp(op=ast.Mod(), left=inner)
            | ast.Call(func=ast.Attribute(value=inner, attr="format" | "strip" | "encode"))
        ):
            text = _text(inner, constants)
    return text


def _part(node: ast.expr, constants: Mapping[str, str]) -> str:
    value = node.value if isinstance(node, ast.FormattedValue) else node
    text = _text(value, constants)
    return UNKNOWN if text is None else text


def _pair(node: ast.Tuple) -> str | None:
    match node.elts:
        case [ast.Constant(value=str() as schema), ast.Constant(value=str() as name)]:
            return f"{schema}.{name}"
        case _:
            return None
