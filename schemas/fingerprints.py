"""The second fingerprint of a schema, as the Python package `avro` computes it.

A single-object encoding names its schema by the fingerprint of the parsing canonical form. The
specification writes primitive types in their short form there. The package `avro` keeps the long
form (`{"type":"string"}`) of types that have a logical type, and so computes another fingerprint.
Users of that package may produce to the topics too, so the codec accepts both fingerprints.
"""

import json
from typing import Any

from fastavro.schema import fingerprint

_ORDER = ("name", "type", "fields", "symbols", "items", "values", "size")


def long_form_fingerprint(schema: str) -> bytes:
    """Return the eight bytes by which the package `avro` names a schema.

    Args:
        schema: the text of the `.avsc` file.
    """
    form = json.dumps(_long_form(json.loads(schema), ""), separators=(",", ":"), ensure_ascii=False)
    return bytes.fromhex(fingerprint(form, "CRC-64-AVRO"))


def _long_form(node: Any, namespace: str) -> Any:
    """Return the long form of a type: only the attributes that resolution needs, and full names."""
    if isinstance(node, list):
        return [_long_form(branch, namespace) for branch in node]
    if not isinstance(node, dict):
        return node
    inner_namespace = node.get("namespace", namespace)
    return {name: _attribute(name, node[name], inner_namespace) for name in _ORDER if name in node}


def _attribute(name: str, value: Any, namespace: str) -> Any:
    match name:
        case "name":
            return value if "." in value or not namespace else f"{namespace}.{value}"
        case "fields":
            return [
                {"name": field["name"], "type": _long_form(field["type"], namespace)}
                for field in value
            ]
        case "type" | "items" | "values":
            return _long_form(value, namespace)
        case _:
            return value
