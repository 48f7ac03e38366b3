"""Request bodies, and answers to them, as the OpenAPI document shows them.

`producer.api` parses bodies itself, to bound their size and to name fields as senders write them,
so FastAPI cannot describe them. What is shown here is generated from the models that do parse.
"""

from typing import Any

from producer.requests import REQUEST

_EXAMPLES: dict[str, Any] = {
    "sms": {
        "summary": "A text message, safe to repeat",
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


def accepted_answer() -> dict[str, Any]:
    """An answer to one message, with some of its fields."""
    return _example("Accepted: it will not be lost", _ACCEPTED)


def batch_answer() -> dict[str, Any]:
    """An answer to a batch: one that was accepted, and one that was not."""
    accepted = {name: _ACCEPTED[name] for name in ("id", "status", "segments")}
    wrong = [{"field": "to", "problem": "is required"}]
    error = {"status": 422, "title": "The request is not valid", "errors": wrong}
    return _example("A result for each, in order", {"results": [accepted, {"error": error}]})


def _example(description: str, value: object) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": value}}}


def single_body() -> dict[str, Any]:
    """The request body of one message."""
    return _body(_message_schema(), _EXAMPLES)


def batch_body(most: int) -> dict[str, Any]:
    """The request body of up to `most` messages."""
    messages = {"type": "array", "minItems": 1, "maxItems": most, "items": _message_schema()}
    schema = {"type": "object", "required": ["messages"], "properties": {"messages": messages}}
    several = [_EXAMPLES[channel]["value"] for channel in ("sms", "push")]
    return _body(schema, {"two": {"summary": "Two messages", "value": {"messages": several}}})


def _body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def _message_schema() -> dict[str, Any]:
    """One of the four shapes, with what pydantic refers to put in its place.

    Its references point into a document of its own, which this is not, once it is shown.
    """
    schema = REQUEST.json_schema()
    shapes = schema.pop("$defs")
    schema.pop("discriminator", None)
    inlined = _inlined(schema, shapes)
    assert isinstance(inlined, dict)  # noqa: S101 - what went in is one
    return inlined


def _inlined(node: object, shapes: dict[str, Any]) -> object:
    match node:
        case {"$ref": str() as reference, **beside}:
            shape = shapes[reference.rpartition("/")[2]]
            return _inlined({**shape, **beside}, shapes)
        case dict():
            return {key: _inlined(value, shapes) for key, value in node.items()}
        case list():
            return [_inlined(item, shapes) for item in node]
        case _:
            return node
