"""Records to bytes and back, in both framings.

A producer calls `Codec.encode`, a consumer `Codec.decode`. Without a registry a value is an Avro
single-object encoding (`C3 01`, the schema's CRC-64-AVRO fingerprint, the body); with one it is
Confluent's wire format (`00`, the schema's registered id, the body). Decoding reads either, and
resolves what an older or newer writer wrote against the schema in this package.
"""

import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, TypeVar, cast

import fastavro
from fastavro.schema import SchemaParseException, fingerprint, to_parsing_canonical_form
from fastavro.types import Schema

from schemas.errors import InvalidRecordError, UndecodableError, UnknownSchemaError, Violation
from schemas.events import StatusEvent
from schemas.fingerprints import long_form_fingerprint
from schemas.messages import (
    Attachment,
    EmailMessage,
    PushMessage,
    SmsMessage,
    VoiceMessage,
    WebPushSubscription,
)
from schemas.vocabulary import Channel, Mode, OnDoubt, Platform, Priority, Reason, Status

Record = SmsMessage | EmailMessage | PushMessage | VoiceMessage | StatusEvent
R = TypeVar("R", SmsMessage, EmailMessage, PushMessage, VoiceMessage, StatusEvent)

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"

FILE_OF: Mapping[type[Record], str] = {
    SmsMessage: "sms_message.avsc",
    EmailMessage: "email_message.avsc",
    PushMessage: "push_message.avsc",
    VoiceMessage: "voice_message.avsc",
    StatusEvent: "status_event.avsc",
}

# Pairs of (Avro name, Python name) of a record's fields.
_NAMES: Mapping[type[Record], tuple[tuple[str, str], ...]] = {
    kind: tuple(("from" if f.name == "sender" else f.name, f.name) for f in fields(kind))
    for kind in FILE_OF
}

_WORDS: Mapping[str, Callable[[str], object]] = {
    "channel": Channel,
    "status": Status,
    "reason": Reason,
    "priority": Priority,
    "mode": Mode,
    "on_doubt": OnDoubt,
    "platform": Platform,
}


class Registry(Protocol):
    """A schema registry, as far as the codec needs one."""

    def id_of(self, subject: str, schema: str) -> int:
        """Register `schema` (JSON) under `subject` if need be, and return its id."""

    def schema_of(self, schema_id: int) -> str:
        """The schema (JSON) of an id.

        Raises:
            UnknownSchemaError: the registry has no such id.
        """


def source_of(kind: type[Record]) -> str:
    """The text of a record's `.avsc` file."""
    return files("schemas").joinpath(FILE_OF[kind]).read_text(encoding="utf-8")


def schema_of(kind: type[Record]) -> Schema:
    """The parsed schema of a record."""
    return _parsed(FILE_OF[kind])


@cache
def _parsed(file: str) -> Schema:
    return fastavro.parse_schema(json.loads(files("schemas").joinpath(file).read_text("utf-8")))


def fingerprint_of(schema: Schema) -> bytes:
    """The eight bytes that name a schema in a single-object encoding (CRC-64-AVRO)."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@cache
def _published() -> Mapping[bytes, Schema]:
    """Every schema ever published, by each name that a single-object value may give it."""
    root = files("schemas").joinpath("published")
    texts = [
        path.read_text(encoding="utf-8")
        for version in root.iterdir()
        if version.is_dir()
        for path in version.iterdir()
        if path.name.endswith(".avsc")
    ]
    named = [(text, fastavro.parse_schema(json.loads(text))) for text in texts]
    named += [(source_of(kind), schema_of(kind)) for kind in FILE_OF]
    return {
        name: schema
        for text, schema in named
        for name in (fingerprint_of(schema), long_form_fingerprint(text))
    }


class Codec:
    """Encodes and decodes the records of the contract.

    Args:
        registry: a schema registry; when given, values are written in Confluent's wire format.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._prefixes: dict[type[Record], bytes] = {}
        self._by_id: dict[int, Schema] = {}

    def encode(self, record: Record, *, topic: str) -> bytes:
        """The bytes to put in `topic`.

        Raises:
            InvalidRecordError: a field has a value that its schema does not allow.
        """
        kind = type(record)
        buffer = io.BytesIO()
        buffer.write(self._prefix(kind, topic))
        try:
            fastavro.schemaless_writer(buffer, schema_of(kind), _to_avro(record))
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidRecordError((Violation(kind.__name__, str(error)),)) from error
        return buffer.getvalue()

    def decode(self, value: bytes, kind: type[R]) -> R:
        """The record in `value`.

        Raises:
            UndecodableError: the bytes are no such record.
            UnknownSchemaError: they name a schema that is not published.
            InvalidRecordError: they decode, and a word in them is outside our vocabulary.
        """
        writer, body = self._writer_of(value)
        reader = schema_of(kind)
        try:
            data = fastavro.schemaless_reader(
                io.BytesIO(body), writer, None if writer is reader else reader
            )
        except Exception as error:  # fastavro raises whatever the bytes lead it to
            raise UndecodableError(f"not a {kind.__name__}: {type(error).__name__}") from error
        return _from_avro(kind, cast("dict[str, Any]", data))

    def _prefix(self, kind: type[Record], topic: str) -> bytes:
        prefix = self._prefixes.get(kind)
        if prefix is None:
            prefix = self._prefixes[kind] = self._new_prefix(kind, topic)
        return prefix

    def _new_prefix(self, kind: type[Record], topic: str) -> bytes:
        if self._registry is None:
            return SINGLE_OBJECT + fingerprint_of(schema_of(kind))
        schema_id = self._registry.id_of(f"{topic}-value", source_of(kind))
        return CONFLUENT + struct.pack(">I", schema_id)

    def _writer_of(self, value: bytes) -> tuple[Schema, bytes]:
        if value.startswith(SINGLE_OBJECT) and len(value) > 10:
            return _writer_by_fingerprint(value[2:10]), value[10:]
        if value.startswith(CONFLUENT) and len(value) > 5:
            return self._writer_by_id(struct.unpack(">I", value[1:5])[0]), value[5:]
        raise UndecodableError("neither an Avro single-object encoding nor Confluent's wire format")

    def _writer_by_id(self, schema_id: int) -> Schema:
        if schema_id not in self._by_id:
            if self._registry is None:
                raise UnknownSchemaError(f"schema id {schema_id}, and no registry is configured")
            text = self._registry.schema_of(schema_id)
            try:
                self._by_id[schema_id] = fastavro.parse_schema(json.loads(text))
            except (ValueError, SchemaParseException) as error:
                raise UnknownSchemaError(f"schema id {schema_id} is no Avro schema") from error
        return self._by_id[schema_id]


def _writer_by_fingerprint(value: bytes) -> Schema:
    try:
        return _published()[value]
    except KeyError:
        raise UnknownSchemaError(f"no published schema has fingerprint {value.hex()}") from None


_NULL = ("null", None)


@cache
def _branches(file: str) -> tuple[tuple[str, str], ...]:
    """The fields that may be null and else are of a primitive type, each with that type's name.

    Told which branch of a union to take, fastavro need not try them, which is slow.
    """
    found = []
    for field in cast("dict[str, Any]", _parsed(file))["fields"]:
        match field["type"]:
            case ["null", str() as branch] | ["null", {"type": str() as branch, "logicalType": _}]:
                found.append((field["name"], branch))
    return tuple(found)


def _to_avro(record: Record) -> dict[str, Any]:
    kind = type(record)
    data = {avro: getattr(record, name) for avro, name in _NAMES[kind]}
    for name, branch in _branches(FILE_OF[kind]):
        value = data[name]
        data[name] = _NULL if value is None else (branch, value)
    match record:
        case EmailMessage():
            data["attachments"] = [_plain(item) for item in record.attachments]
        case PushMessage() if record.subscription is not None:
            data["subscription"] = _plain(record.subscription)
        case _:
            pass
    return data


def _plain(value: Attachment | WebPushSubscription) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _from_avro(kind: type[R], data: dict[str, Any]) -> R:
    values = {name: data[avro] for avro, name in _NAMES[kind]}
    violations = []
    for name, word in _WORDS.items():
        if (said := values.get(name)) is not None:
            try:
                values[name] = word(said)
            except ValueError:
                violations.append(Violation(name, "not one of the known words"))
    if violations:
        raise InvalidRecordError(tuple(violations), values["id"], values["tenant"])
    if kind is EmailMessage:
        values["attachments"] = tuple(Attachment(**item) for item in values["attachments"])
        values["cc"], values["bcc"] = tuple(values["cc"]), tuple(values["bcc"])
    elif kind is PushMessage:
        values["tokens"] = tuple(values["tokens"])
        if values["subscription"] is not None:
            values["subscription"] = WebPushSubscription(**values["subscription"])
    return kind(**values)
