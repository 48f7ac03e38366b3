"""The second name that some writers give a schema.

A single-object encoding names its schema by the fingerprint of the parsing canonical form. The
specification has primitive types in their short form there; the Python package `avro` leaves those
that carry a logical type in their long one (`{"type":"string"}`) and so arrives at another
fingerprint. The front door is open to its users too, so the codec knows both names.
"""

import json
from typing import Any

from fastavro.schema import fingerprint

_ORDER = ("name", "type", "fields", "symbols", "items", "values", "size")


def long_form_fingerprint(schema: str) -> bytes:
    """The eight bytes by which `avro` names a schema, given as the text of its `.avsc`."""
    form = json.dumps(_form(json.loads(schema), ""), separators=(",", ":"), ensure_ascii=False)
    return bytes.fromhex(fingerprint(form, "CRC-64-AVRO"))


def _form(node: Any, namespace: str) -> Any:
    """A type without what resolution does not need, names in full."""
    if isinstance(node, list):
        return [_form(branch, namespace) for branch in node]
    if not isinstance(node, dict):
        return node
    inside = node.get("namespace", namespace)
    return {name: _part(name, node[name], inside) for name in _ORDER if name in node}


def _part(name: str, value: Any, namespace: str) -> Any:
    match name:
        case "name":
            return value if "." in value or not namespace else f"{namespace}.{value}"
        case "fields":
            return [
                {"name": field["name"], "type": _form(field["type"], namespace)} for field in value
            ]
        case "type" | "items" | "values":
            return _form(value, namespace)
        case _:
            return value
