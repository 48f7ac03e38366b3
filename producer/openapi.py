"""The request bodies and example responses in the OpenAPI document.

`producer.api` reads bodies itself, in order to limit their size and to name fields as senders write
them. FastAPI therefore cannot describe the bodies. This module generates the descriptions from the
models that parse them (`producer.requests`).
"""

from typing import Any

from producer.requests import REQUEST_ADAPTER

_EXAMPLES: dict[str, Any] = {
    "sms": {
        "summary": "A text message that can be posted again safely",
        "value": {
            "channel": "sms",
            "to": "+12025550100",
            "body": "Your order is on its way.",
            "idempotency_key": "order-17/shipped",
            "customer_id": "c-1042",
        },
    },
    "email": {
        "summary": "An e-mail for tomorrow",
        "value": {
            "channel": "email",
            "to": "Ann <delivered@simulator.example.com>",
            "subject": "Your invoice",
            "text": "Attached is your invoice.",
            "send_at": "2030-01-31T09:00:00+01:00",
            "attachments": [
                {
                    "filename": "invoice.txt",
                    "content_type": "text/plain",
                    "content": "VG90YWw6IDE3LjAw",
                }
            ],
        },
    },
    "push": {
        "summary": "A notification to a device",
        "value": {
            "channel": "push",
            "to": "simulator:delivered",
            "title": "Delivered",
            "body": "Your parcel is at the door.",
            "ttl": 3600,
        },
    },
    "voice": {
        "summary": "A call that speaks a text",
        "value": {
            "channel": "voice",
            "to": "+12025550100",
            "text": "Your code is 1 2 3 4.",
            "language": "en-US",
            "repeat": 2,
        },
    },
}


_ACCEPTED: dict[str, Any] = {
    "id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "tenant": "acme",
    "channel": "sms",
    "to": "+12025550100",
    "status": "pending",
    "reason": "queued",
    "segments": {"count": 1, "encoding": "GSM-7", "units": 25},
}


def accepted_example() -> dict[str, Any]:
    """Return the example response for one message, with some of its fields."""
    return _example("The message is accepted and cannot be lost", _ACCEPTED)


def batch_example() -> dict[str, Any]:
    """Return the example response for a batch: one message was accepted, one was refused."""
    accepted = {name: _ACCEPTED[name] for name in ("id", "status", "segments")}
    errors = [{"field": "to", "problem": "is required"}]
    error = {"status": 422, "title": "The request is not valid", "errors": errors}
    return _example(
        "A result for each message, in order", {"results": [accepted, {"error": error}]}
    )


def _example(description: str, value: object) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": value}}}


def single_body() -> dict[str, Any]:
    """Return the description of a request body with one message."""
    return _body(_message_schema(), _EXAMPLES)


def batch_body(limit: int) -> dict[str, Any]:
    """Return the description of a request body with up to `limit` messages."""
    messages = {"type": "array", "minItems": 1, "maxItems": limit, "items": _message_schema()}
    schema = {"type": "object", "required": ["messages"], "properties": {"messages": messages}}
    examples = [_EXAMPLES[channel]["value"] for channel in ("sms", "push")]
    return _body(schema, {"two": {"summary": "Two messages", "value": {"messages": examples}}})


def _body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def _message_schema() -> dict[str, Any]:
    """Return the schema of the four kinds of messages, without references.

    pydantic's references point into a document of its own, and would not resolve in this one.
    """
    schema = REQUEST_ADAPTER.json_schema()
    definitions = schema.pop("$defs")
    schema.pop("discriminator", None)
    inlined = _inline(schema, definitions)
    assert isinstance(inlined, dict)  # noqa: S101 - a dict stays a dict
    return inlined


def _inline(node: object, definitions: dict[str, Any]) -> object:
    match node:
        case {"$ref": str() as reference, **siblings}:
            definition = definitions[reference.rpartition("/")[2]]
            return _inline({**definition, **siblings}, definitions)
        case dict():
            return {key: _inline(value, definitions) for key, value in node.items()}
        case list():
            return [_inline(item, definitions) for item in node]
        case _:
            return node
